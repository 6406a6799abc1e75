//! From a request to a session: the answer at once, the session in a task.

use std::future::Future;

use http::{Request, Response, StatusCode};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use protos::cri::{self, Session};
use tokio::task::JoinSet;

use crate::forward::{self, OpenPort, TUNNEL, Target};
use crate::session::{self, Options};
use crate::spdy::{Connection, Role};
use crate::upgrade::{Agreed, Asked, Body, Wire, agree, plain};
use crate::websocket::messages::{self, Form};
use crate::websocket::{self, Tunnel};

/// Serves streams; owns the tasks behind them, which end with it.
#[derive(Default)]
pub struct Streams {
    sessions: Mutex<JoinSet<()>>,
}

impl Streams {
    /// exec and attach: answers a request to upgrade; `open` begins the session once the client's streams are there.
    pub fn session<F>(&self, mut request: Request<Body>, options: Options, open: F) -> Response<Body>
    where
        F: Future<Output = cri::Result<Session>> + Send + 'static,
    {
        let Agreed { wire, protocol, response } = match agree(request.headers(), &session::OFFER) {
            Ok(agreed) => agreed,
            Err(refusal) => return refusal,
        };
        self.spawn(hyper::upgrade::on(&mut request), move |upgraded| async move {
            match wire {
                Wire::WebSocket => {
                    session::over_websocket(websocket::accept(upgraded).await, protocol, options, open).await;
                }
                Wire::Spdy => match Connection::new(TokioIo::new(upgraded), Role::Server) {
                    Ok(connection) => session::over_spdy(connection, protocol, options, open).await,
                    Err(error) => tracing::warn!(%error, "a SPDY connection could not be set up"),
                },
            }
        });
        response
    }

    /// exec and attach over WebSocket, when there can be no session: the client is told over the channel for that.
    pub fn refuse(&self, mut request: Request<Body>, options: Options, why: String) -> Response<Body> {
        let Agreed { protocol, response, .. } = match agree(request.headers(), &session::OFFER) {
            Ok(agreed) => agreed,
            Err(refusal) => return refusal,
        };
        self.spawn(hyper::upgrade::on(&mut request), move |upgraded| async move {
            session::refuse(websocket::accept(upgraded).await, protocol, options, &why).await;
        });
        response
    }

    /// port-forward: answers a request to upgrade; `open` makes a connection to a port. Errors call the pod `name`.
    pub fn port_forward(&self, mut request: Request<Body>, name: &str, open: OpenPort) -> Response<Body> {
        let Agreed { wire, protocol, response } = match agree(request.headers(), &forward::OFFER) {
            Ok(agreed) => agreed,
            Err(refusal) => return refusal,
        };
        let target = Target { name: name.into(), open };
        let is_channels = wire == Wire::WebSocket && protocol != TUNNEL;
        let ports = match forward::ports(request.uri().query().unwrap_or_default()) {
            Ok(ports) => ports,
            Err(error) if is_channels => return plain(StatusCode::BAD_REQUEST, error),
            Err(_) => Vec::new(),
        };
        self.spawn(hyper::upgrade::on(&mut request), move |upgraded| async move {
            let connection = match wire {
                Wire::WebSocket if is_channels => {
                    return forward::over_websocket(websocket::accept(upgraded).await, protocol, ports, target).await;
                }
                Wire::WebSocket => Connection::new(Tunnel::new(websocket::accept(upgraded).await), Role::Server),
                Wire::Spdy => Connection::new(TokioIo::new(upgraded), Role::Server),
            };
            match connection {
                Ok(connection) => forward::over_spdy(connection, target).await,
                Err(error) => tracing::warn!(%error, "a SPDY connection could not be set up"),
            }
        });
        response
    }

    /// Sends what a reply would have had in its body as messages of the WebSocket that was asked for: as text where it
    /// `is_text`. Failures stay plain replies.
    pub fn messages(&self, asked: Asked, reply: Response<Body>, is_text: bool) -> Response<Body> {
        if reply.status() != StatusCode::OK {
            return reply;
        }
        let Agreed { protocol, response, .. } = match agree(&asked.headers, &messages::OFFER) {
            Ok(agreed) => agreed,
            Err(refusal) => return refusal,
        };
        let form = Form::new(is_text, protocol);
        self.spawn(asked.upgrade, move |upgraded| async move {
            messages::send(websocket::accept(upgraded).await, reply.into_body(), form).await;
        });
        response
    }

    fn spawn<F>(&self, upgrade: OnUpgrade, serve: impl FnOnce(Upgraded) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut sessions = self.sessions.lock();
        while sessions.try_join_next().is_some() {}
        sessions.spawn(async move {
            match upgrade.await {
                Ok(upgraded) => serve(upgraded).await,
                Err(error) => tracing::debug!(%error, "a stream was not upgraded"),
            }
        });
    }
}
