//! The web pages: the files of `broker/ui`, compiled into the program.
//!
//! The pages are plain ES modules that use the HTTP API; nothing here knows what they show. Everybody may load them:
//! without a login they show the login only.

use super::Api;
use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use std::sync::{Arc, OnceLock};

const HTML: &str = "text/html; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// A file of the pages.
struct Page {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
    tag: OnceLock<HeaderValue>,
}

macro_rules! pages {
    ($($path:literal: $kind:ident,)*) => {
        [$(Page {
            path: $path,
            kind: $kind,
            text: include_str!(concat!("../../ui/", $path)),
            tag: OnceLock::new(),
        },)*]
    };
}

/// Every file there is; a test holds the list against the folder.
static PAGES: [Page; 47] = pages! {
    "css/layout.css": STYLE,
    "css/parts.css": STYLE,
    "css/theme.css": STYLE,
    "icon.svg": PICTURE,
    "index.html": HTML,
    "js/adding.js": SCRIPT,
    "js/alerts.js": SCRIPT,
    "js/api.js": SCRIPT,
    "js/chart.js": SCRIPT,
    "js/dom.js": SCRIPT,
    "js/early.js": SCRIPT,
    "js/features.js": SCRIPT,
    "js/finder.js": SCRIPT,
    "js/format.js": SCRIPT,
    "js/forms.js": SCRIPT,
    "js/list.js": SCRIPT,
    "js/live.js": SCRIPT,
    "js/main.js": SCRIPT,
    "js/matches.js": SCRIPT,
    "js/pages.js": SCRIPT,
    "js/pages/bindings.js": SCRIPT,
    "js/pages/channels.js": SCRIPT,
    "js/pages/cluster.js": SCRIPT,
    "js/pages/connections.js": SCRIPT,
    "js/pages/consumers.js": SCRIPT,
    "js/pages/definitions.js": SCRIPT,
    "js/pages/exchange.js": SCRIPT,
    "js/pages/exchanges.js": SCRIPT,
    "js/pages/flags.js": SCRIPT,
    "js/pages/limits.js": SCRIPT,
    "js/pages/messages.js": SCRIPT,
    "js/pages/node.js": SCRIPT,
    "js/pages/overview.js": SCRIPT,
    "js/pages/policies.js": SCRIPT,
    "js/pages/publish.js": SCRIPT,
    "js/pages/queue.js": SCRIPT,
    "js/pages/queues.js": SCRIPT,
    "js/pages/user.js": SCRIPT,
    "js/pages/users.js": SCRIPT,
    "js/pages/vhosts.js": SCRIPT,
    "js/parts.js": SCRIPT,
    "js/rates.js": SCRIPT,
    "js/router.js": SCRIPT,
    "js/store.js": SCRIPT,
    "vendor/uPlot.LICENSE": TEXT,
    "vendor/uPlot.iife.min.js": SCRIPT,
    "vendor/uPlot.min.css": STYLE,
};

/// The routes of everything outside `/api`.
pub(super) fn routes() -> Router<Arc<Api>> {
    // Where RabbitMQ's pages once were, and some bookmarks still point.
    let first = Router::new().route("/mgmt", get(async || Redirect::permanent("/")));
    PAGES.iter().fold(first, |router, page| {
        let serve = async move |headers: HeaderMap| page.answer(&headers);
        // A page at the root is found by the folder's name.
        let router = if page.path == "index.html" { router.route("/", get(serve)) } else { router };
        router.route(&format!("/{}", page.path), get(serve))
    })
}

impl Page {
    /// The file, or 304 for who has it. Browsers ask each time, so that an update of the node is seen at once.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let tag = self.tag.get_or_init(|| tag(self.text));
        let known = headers.get(header::IF_NONE_MATCH) == Some(tag);
        let mut response =
            if known { StatusCode::NOT_MODIFIED.into_response() } else { self.text.into_response() };
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        response.headers_mut().insert(header::ETAG, tag.clone());
        response
    }
}

/// A name for just this content.
fn tag(text: &str) -> HeaderValue {
    let hash = Sha256::digest(text.as_bytes());
    let hex: String = hash.iter().take(8).map(|octet| format!("{octet:02x}")).collect();
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn files(folder: &Path, found: &mut BTreeSet<String>, root: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found, root);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
        let mut found = BTreeSet::new();
        files(&root, &mut found, &root);
        let listed: BTreeSet<String> = PAGES.iter().map(|page| page.path.to_owned()).collect();
        assert_eq!(listed, found);
    }

    #[test]
    fn who_has_a_page_is_not_sent_it_again() {
        let page = PAGES.iter().find(|page| page.path == "index.html").unwrap();
        let first = page.answer(&HeaderMap::new());
        assert_eq!(first.status(), StatusCode::OK);
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(page.answer(&headers).status(), StatusCode::NOT_MODIFIED);
        headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"other\""));
        assert_eq!(page.answer(&headers).status(), StatusCode::OK);
    }

    #[test]
    fn the_pages_keep_to_the_content_security_policy() {
        for page in PAGES.iter().filter(|page| !page.path.starts_with("vendor/")) {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                " style=\"",
                "<script>",
            ] {
                assert!(!page.text.contains(forbidden), "{} holds {forbidden}", page.path);
            }
        }
    }
}
