//! Tests of the statistics page, its forms and its orders.

use daemon::diagnostic::Diagnostics;
use daemon::http::{Request, header::HeaderMap};

use super::*;
use crate::config::haproxy_cfg::Reader;
use crate::config::{Config, validate};

/// The first line of haproxy 2.6.12's CSV, as recorded.
const RECORDED_HEADER: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,agent_fall,agent_health,addr,cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,intercepted,dcon,dses,wrew,connect,reuse,cache_lookups,cache_hits,srv_icur,src_ilim,qtime_max,ctime_max,rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,used_conn_cur,need_conn_est,uweight,agg_server_status,agg_server_check_status,agg_check_status,-,ssl_sess,ssl_reused_sess,ssl_failed_handshake,h2_headers_rcvd,h2_data_rcvd,h2_settings_rcvd,h2_rst_stream_rcvd,h2_goaway_rcvd,h2_detected_conn_protocol_errors,h2_detected_strm_protocol_errors,h2_rst_stream_resp,h2_goaway_resp,h2_open_connections,h2_backend_open_streams,h2_total_connections,h2_backend_total_streams,h1_open_connections,h1_open_streams,h1_total_connections,h1_total_streams,h1_bytes_in,h1_bytes_out,h1_spliced_bytes_in,h1_spliced_bytes_out,";

const CONFIG: &str = "\
defaults
 mode tcp
 maxconn 2000
 timeout connect 5s
 timeout client 1h
 timeout server 1h
listen rabbitmq_cluster
 bind 127.0.0.1:1
 server A 127.0.0.1:5672 check inter 5000 rise 2 fall 3
 server B 127.0.0.1:5673 check inter 5000 rise 2 fall 3
listen monitor
 bind 127.0.0.1:2
 mode http
 stats uri /monitor
 stats refresh 5s
";

fn process(more: &str) -> Process {
    let mut config = Config::default();
    let mut remarks = Diagnostics::new();
    Reader::default().read(&format!("{CONFIG}{more}"), "t.cfg", &mut config, &mut remarks);
    validate::validate(&mut config, &mut remarks);
    assert!(!remarks.has_errors(), "{remarks}");
    Process::new(config, "haproxy")
}

async fn ask(
    process: &Process,
    method: Method,
    path: &str,
    headers: HeaderMap,
    body: &str,
) -> (StatusCode, HeaderMap, String) {
    let frontend = process.sections().last().unwrap().frontend.clone().unwrap();
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let request = Request {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body: body.to_owned().into(),
        peer: Some("127.0.0.1:9".parse().unwrap()),
    };
    let mut response = answer(process, &frontend, &request);
    let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
    let mut body = Vec::new();
    while let Some(Ok(frame)) =
        std::future::poll_fn(|context| std::pin::Pin::new(response.body_mut()).poll_frame(context)).await
    {
        body.extend_from_slice(frame.data_ref().unwrap());
    }
    (status, headers, String::from_utf8(body).unwrap())
}

use daemon::http::Body as _;

async fn get(process: &Process, path: &str) -> (StatusCode, HeaderMap, String) {
    ask(process, Method::GET, path, HeaderMap::new(), "").await
}

#[tokio::test]
async fn the_csv_has_haproxys_columns_in_order() {
    let (status, headers, text) = get(&process(""), "/monitor;csv;norefresh").await;
    assert_eq!((status, headers["content-type"].to_str().unwrap()), (StatusCode::OK, "text/plain"));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], RECORDED_HEADER);
    let names: Vec<_> =
        lines[1..].iter().map(|line| line.split(',').take(2).collect::<Vec<_>>().join("/")).collect();
    assert_eq!(
        names,
        [
            "rabbitmq_cluster/FRONTEND",
            "rabbitmq_cluster/A",
            "rabbitmq_cluster/B",
            "rabbitmq_cluster/BACKEND",
            "monitor/FRONTEND",
            "monitor/BACKEND"
        ]
    );
    for line in &lines {
        assert_eq!(line.matches(',').count(), RECORDED_HEADER.matches(',').count(), "{line}");
    }
    // Ids, limits and states as haproxy gave them for such a file.
    assert!(
        lines[1].starts_with("rabbitmq_cluster,FRONTEND,,,0,0,2000,0,0,0,0,0,0,,,,,OPEN,,,,,,,,,1,1,0,,,,0,")
    );
    assert!(lines[2].starts_with(
        "rabbitmq_cluster,A,0,0,0,0,,0,0,0,,0,,0,0,0,0,UP 1/3,1,1,0,0,0,0,0,,1,1,1,,0,,2,0,,0,INI,"
    ));
    assert!(lines[4].starts_with(
        "rabbitmq_cluster,BACKEND,0,0,0,0,200,0,0,0,0,0,,0,0,0,0,UP,2,2,0,,0,0,0,,1,1,0,,0,,1,"
    ));
}

#[tokio::test]
async fn the_json_says_the_same_as_the_csv() {
    let process = process("");
    let (_, headers, text) = get(&process, "/monitor;json").await;
    assert_eq!(headers["content-type"], "application/json");
    let rows: serde_json::Value = serde_json::from_str(&text).unwrap();
    let first = &rows[0][0];
    assert_eq!(first["objType"], "Frontend");
    assert_eq!(first["field"]["name"], "pxname");
    assert_eq!(first["tags"]["origin"], "Key");
    assert_eq!(first["value"]["value"], "rabbitmq_cluster");
    assert_eq!(rows.as_array().unwrap().len(), 6);
}

#[tokio::test]
async fn the_page_has_haproxys_words_and_reloads_itself() {
    let process = process("");
    let (status, headers, page) = get(&process, "/monitor").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&headers["refresh"], &headers["cache-control"]),
        (&"5".parse().unwrap(), &"no-cache".parse().unwrap())
    );
    for words in [
        "Statistics Report for pid",
        "General process information",
        "Session rate",
        "LastChk",
        "Dwntme",
        "Thrtle",
        "Hide 'DOWN' servers",
        "active UP, going down",
        "class=\"active_going_down\"",
        "UP 1/3 &darr;",
    ] {
        assert!(page.contains(words), "{words}");
    }
    // Every line of the table is as wide as its head.
    let (_, headers, _) = get(&process, "/monitor;norefresh").await;
    assert!(!headers.contains_key("refresh"));
    assert_eq!(get(&process, "/monitorXYZ").await.0, StatusCode::OK);
    let (status, _, body) = get(&process, "/else").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("No server is available to handle this request."));
    assert!(!get(&process, "/monitor?scope=rabbit").await.2.contains("monitor/FRONTEND"));
    assert_eq!(get(&process, "/monitor;csv?scope=rabbit").await.2.lines().count(), 5);
}

#[tokio::test]
async fn scripts_in_names_stay_text() {
    let page =
        get(&process(" stats show-desc <script>alert(1)</script>\n"), "/monitor?scope=<script>x").await.2;
    // The page's own script is the only one.
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains("&lt;script&gt;alert(1)") && page.contains("value=\"&lt;script&gt;x\""));
}

#[tokio::test]
async fn a_password_protects_the_page() {
    let process = process(" stats auth admin:secret\n stats realm Brokers\\ here\n");
    let (status, headers, _) = get(&process, "/monitor;csv").await;
    assert_eq!(
        (status, &headers["www-authenticate"]),
        (StatusCode::UNAUTHORIZED, &"Basic realm=\"Brokers here\"".parse().unwrap())
    );
    let with: HeaderMap =
        [("authorization".parse().unwrap(), "Basic YWRtaW46c2VjcmV0".parse().unwrap())].into_iter().collect();
    assert_eq!(ask(&process, Method::GET, "/monitor;csv", with, "").await.0, StatusCode::OK);
}

#[tokio::test]
async fn orders_need_permission_and_are_carried_out() {
    let order = "s=B&action=drain&b=%231";
    let closed = process("");
    let (status, headers, _) = ask(&closed, Method::POST, "/monitor", HeaderMap::new(), order).await;
    assert_eq!((status, &headers["location"]), (StatusCode::SEE_OTHER, &"/monitor;st=DENY".parse().unwrap()));

    let open = process(" stats admin if LOCALHOST\n");
    let result = async |body: &str| {
        let (_, headers, _) = ask(&open, Method::POST, "/monitor", HeaderMap::new(), body).await;
        headers["location"].to_str().unwrap().to_owned()
    };
    let status = || open.sections()[0].backend.as_ref().unwrap().servers()[1].condition().status();
    assert_eq!(result(order).await, "/monitor;st=DONE");
    assert_eq!(status(), "DRAIN 1/3");
    assert_eq!(result("s=B&action=maint&b=rabbitmq_cluster").await, "/monitor;st=DONE");
    assert_eq!(status(), "MAINT");
    assert_eq!(result("s=B&s=X&action=ready&b=%231").await, "/monitor;st=PART");
    assert_eq!(status(), "UP 1/3");
    assert_eq!(result("action=ready&b=%231").await, "/monitor;st=NONE");
    assert_eq!(result("").await, "/monitor;st=NONE");
    for wrong in ["s=B&action=explode&b=%231", "s=B&action=ready&b=%2399", "s=X&action=ready&b=%231"] {
        assert_eq!(result(wrong).await, "/monitor;st=ERRP", "{wrong}");
    }
    // A button of a line says all in one.
    assert_eq!(result("do=drain+A&action=&b=%231&s=B").await, "/monitor;st=DONE");
    assert_eq!(
        open.sections()[0].backend.as_ref().unwrap().server("A").unwrap().condition().status(),
        "DRAIN 1/3"
    );
    assert_eq!(result(&format!("{order}&x={}", "x".repeat(20_000))).await, "/monitor;st=EXCD");
    let foreign: HeaderMap = [
        ("host".parse().unwrap(), "c:8100".parse().unwrap()),
        ("origin".parse().unwrap(), "http://elsewhere".parse().unwrap()),
    ]
    .into_iter()
    .collect();
    let (_, headers, _) = ask(&open, Method::POST, "/monitor", foreign, order).await;
    assert_eq!(headers["location"], "/monitor;st=DENY");
}

/// A browser's form counts only with the token of the page that was sent to it.
#[tokio::test]
async fn a_browser_needs_the_token_of_its_page() {
    let process = process(" stats admin if LOCALHOST\n");
    let (_, headers, page) = get(&process, "/monitor").await;
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("SameSite=Strict") && cookie.contains("HttpOnly"), "{cookie}");
    let token = page.split("name=\"token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let browser: HeaderMap =
        [("host", "c:8100"), ("origin", "http://c:8100"), ("cookie", cookie.split(';').next().unwrap())]
            .into_iter()
            .map(|(name, value)| (name.parse::<header::HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
    let post = async |token: &str| {
        let body = format!("s=B&action=drain&b=%231&token={token}");
        let (_, headers, _) = ask(&process, Method::POST, "/monitor", browser.clone(), &body).await;
        headers["location"].to_str().unwrap().to_owned()
    };
    assert_eq!(post("").await, "/monitor;st=DENY");
    assert_eq!(post("0123456789abcdef0123456789abcdef").await, "/monitor;st=DENY");
    assert_eq!(post(token).await, "/monitor;st=DONE");
}

#[tokio::test]
async fn the_page_may_load_nothing_from_elsewhere_and_its_own_parts_fit_the_policy() {
    let (_, headers, page) = get(&process(""), "/monitor").await;
    let policy = headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for forbidden in ["unsafe-inline", "unsafe-eval", "http:", "https:", "*"] {
        assert!(!policy.contains(forbidden), "{policy}");
    }
    // Styles and handlers inside of elements would be blocked, and nothing is fetched from another host.
    for forbidden in [" style=", " onclick=", " onload=", "src=", "http://", "https://", "@import", "url("] {
        assert!(!page.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn methods_and_options_are_answered_as_haproxy_does() {
    let process = process("");
    let head = ask(&process, Method::HEAD, "/monitor", HeaderMap::new(), "").await;
    assert_eq!((head.0, &head.1["refresh"]), (StatusCode::OK, &"5".parse().unwrap()));
    assert_eq!(
        ask(&process, Method::PUT, "/monitor", HeaderMap::new(), "").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let (_, headers, _) =
        ask(&process, Method::POST, "/monitor;up;norefresh?scope=rab", HeaderMap::new(), "").await;
    assert_eq!(headers["location"], "/monitor;st=DENY;up;norefresh?scope=rab");
    let (_, headers, schema) = get(&process, "/monitor;json-schema").await;
    assert_eq!(headers["content-type"], "application/json");
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-04/schema#");
    let (_, _, live) = get(&process, "/monitor;live").await;
    let live: serde_json::Value = serde_json::from_str(&live).unwrap();
    assert_eq!(live["rows"]["1/1/S"]["bin"], 0);
    assert_eq!(get(&process, "/monitor;no-maint;up").await.0, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_on_the_same_listener_with_the_names_of_haproxys_exporter() {
    let process = process("");
    let (status, headers, text) = get(&process, "/metrics").await;
    assert_eq!(
        (status, headers["content-type"].to_str().unwrap()),
        (StatusCode::OK, "text/plain; version=0.0.4")
    );
    let found: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE haproxy_")).collect();
    let recorded: Vec<&str> = include_str!("tests/metrics.txt").lines().collect();
    assert_eq!(found, recorded);
    assert!(text.contains("haproxy_server_limit_sessions{proxy=\"rabbitmq_cluster\",server=\"A\"} NaN\n"));
    assert!(text.contains("haproxy_backend_status{proxy=\"rabbitmq_cluster\",state=\"UP\"} 1\n"));
    assert!(text.contains("haproxy_frontend_http_responses_total{proxy=\"monitor\",code=\"2xx\"} "));
    assert!(!text.contains("haproxy_frontend_http_responses_total{proxy=\"rabbitmq_cluster\""));
    // Every sample belongs to the family before it and has a value.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let value = line.rsplit(' ').next().unwrap();
        assert!(value == "NaN" || value.parse::<f64>().is_ok(), "{line}");
    }
    let servers = get(&process, "/metrics?scope=server").await.2;
    assert!(servers.lines().all(|line| line.contains("haproxy_server_")), "{servers}");
    assert_eq!(get(&process, "/metrics?scope=nonsense").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn metrics_are_as_protected_as_the_page() {
    let process = process(" stats auth admin:secret\n");
    assert_eq!(get(&process, "/metrics").await.0, StatusCode::UNAUTHORIZED);
}

#[test]
fn ages_are_short() {
    for (seconds, text) in [(5, "5s"), (85, "1m25s"), (7380, "2h3m"), (273_600, "3d4h")] {
        assert_eq!(page::age(seconds), text);
    }
}
