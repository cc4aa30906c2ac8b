//! One line for each path: who answers, and what it is for. The router, the `OPTIONS` of each path, the API's
//! description for people (`/api/index.html`) and for programs (`/api/openapi.json`) come from it.

use super::Api;
use axum::Router;
use axum::handler::Handler;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItemBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ObjectBuilder, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathsBuilder, RefOr, Required,
    ResponseBuilder, Schema,
};

/// What can be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Get,
    Put,
    Post,
    Delete,
}

impl Verb {
    fn name(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Put => "PUT",
            Verb::Post => "POST",
            Verb::Delete => "DELETE",
        }
    }
}

/// What an operation is for, and the fields of its body.
struct Operation {
    verb: Verb,
    summary: Cow<'static, str>,
    body: &'static str,
}

/// A path of the API.
pub(super) struct ApiPath {
    path: Cow<'static, str>,
    methods: MethodRouter<Arc<Api>>,
    operations: Vec<Operation>,
}

/// A path of the API, in which `{name}` stands for a part.
pub(super) fn at(path: impl Into<Cow<'static, str>>) -> ApiPath {
    ApiPath { path: path.into(), methods: MethodRouter::new(), operations: Vec::new() }
}

impl ApiPath {
    /// What GET answers.
    pub(super) fn get<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        handler: H,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.with(Verb::Get, get(handler), summary, "")
    }

    /// What PUT does, with the names of the fields in its body; those with a question mark may be left out.
    pub(super) fn put<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        handler: H,
        summary: impl Into<Cow<'static, str>>,
        body: &'static str,
    ) -> Self {
        self.with(Verb::Put, put(handler), summary, body)
    }

    /// What POST does, with the names of the fields in its body.
    pub(super) fn post<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        handler: H,
        summary: impl Into<Cow<'static, str>>,
        body: &'static str,
    ) -> Self {
        self.with(Verb::Post, post(handler), summary, body)
    }

    /// What DELETE does.
    pub(super) fn delete<H: Handler<T, Arc<Api>>, T: 'static>(
        self,
        handler: H,
        summary: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.with(Verb::Delete, delete(handler), summary, "")
    }

    fn with(
        mut self,
        verb: Verb,
        method: MethodRouter<Arc<Api>>,
        summary: impl Into<Cow<'static, str>>,
        body: &'static str,
    ) -> Self {
        self.methods = self.methods.merge(method);
        self.operations.push(Operation { verb, summary: summary.into(), body });
        self
    }

    /// `Allow`, as RabbitMQ writes it.
    fn allowed(&self) -> String {
        let has = |verb| self.operations.iter().any(|operation| operation.verb == verb);
        let mut allowed = Vec::new();
        for verb in [Verb::Delete, Verb::Put, Verb::Post] {
            allowed.extend(has(verb).then(|| verb.name()));
        }
        allowed.reverse();
        if has(Verb::Get) {
            allowed.splice(0..0, ["HEAD", "GET"]);
        }
        allowed.push("OPTIONS");
        allowed.join(", ")
    }

    /// The path, with names of its parts in braces.
    #[cfg(test)]
    pub(super) fn template(&self) -> &str {
        &self.path
    }

    fn tag(&self) -> &str {
        self.path.trim_start_matches("/api/").split('/').next().unwrap_or_default()
    }
}

/// The router of these paths, with their descriptions.
pub(super) fn router(paths: Vec<ApiPath>) -> Router<Arc<Api>> {
    let (page, description) = (page(&paths), description(&paths).to_json().unwrap_or_default());
    let mut router = Router::new();
    for path in paths {
        let allowed = path.allowed();
        let refused = allow(&allowed, StatusCode::METHOD_NOT_ALLOWED);
        let told = allow(&allowed, StatusCode::OK);
        let methods = path.methods.options(async || told).fallback(async || refused);
        router = router.route(&path.path, methods);
    }
    router
        .route("/api/index.html", get(async || Html(page)))
        .route("/api/openapi.json", get(async || ([(header::CONTENT_TYPE, "application/json")], description)))
}

fn allow(methods: &str, status: StatusCode) -> AllowAnswer {
    AllowAnswer { methods: methods.to_owned(), status }
}

#[derive(Clone)]
struct AllowAnswer {
    methods: String,
    status: StatusCode,
}

impl IntoResponse for AllowAnswer {
    fn into_response(self) -> Response {
        let headers: [(HeaderName, String); 1] = [(header::ALLOW, self.methods)];
        (self.status, headers).into_response()
    }
}

/// The description for people.
fn page(paths: &[ApiPath]) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let mut rows = String::new();
    for path in paths {
        for operation in &path.operations {
            // Writing to a string does not fail.
            let _ = writeln!(
                rows,
                "<tr><td>{}</td><td><code>{}</code></td><td>{}</td><td><code>{}</code></td></tr>",
                operation.verb.name(),
                escape(&path.path),
                escape(&operation.summary),
                escape(operation.body),
            );
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>HTTP API</title></head><body>\n\
         <h1>HTTP API</h1>\n<p>The paths of RabbitMQ's management API, and some more. Log in by HTTP basic \
         authentication. A vhost called / is written %2F. Lists take <code>columns</code>, <code>sort</code>, \
         <code>sort_reverse</code>, <code>page</code>, <code>page_size</code>, <code>name</code>, <code>use_regex</code> and \
         <code>where</code> (conditions such as <code>messages&gt;0,consumers=0</code>). For programs: <a href=\"openapi.json\">openapi.json</a>.</p>\n\
         <table><thead><tr><th>Method</th><th>Path</th><th>What it does</th><th>Fields of the body</th></tr></thead>\
         <tbody>\n{rows}</tbody></table></body></html>\n"
    )
}

/// The description for programs.
fn description(paths: &[ApiPath]) -> OpenApi {
    let mut described = PathsBuilder::new();
    for path in paths {
        let mut item = PathItemBuilder::new();
        for operation in &path.operations {
            let method = match operation.verb {
                Verb::Get => HttpMethod::Get,
                Verb::Put => HttpMethod::Put,
                Verb::Post => HttpMethod::Post,
                Verb::Delete => HttpMethod::Delete,
            };
            item = item.operation(method, operation.described(path));
        }
        described = described.path(&*path.path, item.build());
    }
    let mut components = Components::new();
    let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
    components.add_security_scheme("basic", SecurityScheme::Http(basic));
    OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("HTTP API")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some("RabbitMQ's management API, and some more."))
                .build(),
        )
        .paths(described.build())
        .components(Some(components))
        .security(Some([SecurityRequirement::new("basic", Vec::<String>::new())]))
        .build()
}

impl Operation {
    fn described(&self, path: &ApiPath) -> utoipa::openapi::path::Operation {
        let text = || {
            RefOr::T(Schema::Object(ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).build()))
        };
        let mut operation = OperationBuilder::new().summary(Some(&*self.summary)).tag(path.tag()).response(
            "default",
            ResponseBuilder::new().description("The answer, or {error, reason}").build(),
        );
        let parts = path.path.split(['{', '}']).skip(1).step_by(2);
        for part in parts {
            let parameter = ParameterBuilder::new()
                .name(part)
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(text()))
                .build();
            operation = operation.parameter(parameter);
        }
        if !self.body.is_empty() {
            let mut object = ObjectBuilder::new();
            for field in self.body.split(' ') {
                let name = field.trim_end_matches('?');
                object = object.property(name, RefOr::T(Schema::default()));
                if name == field {
                    object = object.required(name);
                }
            }
            let content =
                ContentBuilder::new().schema(Some(RefOr::T(Schema::Object(object.build())))).build();
            operation = operation
                .request_body(Some(RequestBodyBuilder::new().content("application/json", content).build()));
        }
        operation.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allow_is_written_as_rabbitmq_does() {
        let nothing = async || ();
        assert_eq!(at("/api/a").get(nothing, "").allowed(), "HEAD, GET, OPTIONS");
        let all =
            at("/api/a").get(nothing, "").put(nothing, "", "").delete(nothing, "").post(nothing, "", "");
        assert_eq!(all.allowed(), "HEAD, GET, POST, PUT, DELETE, OPTIONS");
    }

    #[test]
    fn paths_are_described_with_their_parts_and_bodies() {
        let nothing = async || ();
        let paths =
            [at("/api/queues/{vhost}/{name}/get").post(nothing, "Fetches", "count ackmode truncate?")];
        let described = serde_json::to_value(description(&paths)).unwrap();
        let operation = &described["paths"]["/api/queues/{vhost}/{name}/get"]["post"];
        assert_eq!(operation["parameters"][1]["name"], "name");
        assert_eq!(operation["tags"][0], "queues");
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(schema["required"], serde_json::json!(["count", "ackmode"]));
        assert!(page(&paths).contains("<code>/api/queues/{vhost}/{name}/get</code></td><td>Fetches"));
    }
}
