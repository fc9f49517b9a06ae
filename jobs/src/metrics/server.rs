//! The server: it answers GET /metrics and nothing else.

use crate::metrics::Metrics;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What Prometheus knows the format by.
const FORMAT: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// Connections at once; others wait.
const CONNECTIONS: usize = 16;

/// A client that sends no request for so long is hung up on.
const PATIENCE: Duration = Duration::from_secs(10);

/// The pause after a connection that could not be taken, as where no descriptor is left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves on a thread of its own until the process ends.
///
/// # Errors
/// What the system says.
pub fn start(listener: TcpListener, metrics: Metrics) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        tokio::net::TcpListener::from_std(listener)?
    };
    let thread = std::thread::Builder::new().name("metrics".into());
    thread.spawn(move || runtime.block_on(serve(listener, metrics))).map(drop)
}

async fn serve(listener: tokio::net::TcpListener, metrics: Metrics) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let metrics = metrics.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answered = Ok::<_, Infallible>(answer(&request, &metrics));
                async { answered }
            });
            // What a client does wrong is its own affair.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(place);
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    let is_read = [Method::GET, Method::HEAD].contains(request.method());
    let (status, format, text) = match request.uri().path() {
        "/metrics" if is_read => (StatusCode::OK, FORMAT, metrics.text()),
        "/metrics" => (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "metrics are read with GET\n".into()),
        _ => (StatusCode::NOT_FOUND, PLAIN, "metrics are at /metrics\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, format);
    response
}

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
