//! Paths that components answer. They are found behind everything that `up` itself answers.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jetbridge::wasi::host::Handler;

use super::metrics::{Came, ComponentMetrics};

/// The components that answer, by their paths. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    routes: Arc<RwLock<BTreeMap<String, Route>>>,
    metrics: ComponentMetrics,
}

#[derive(Clone, Debug)]
struct Route {
    component: String,
    handler: Arc<Handler>,
}

impl Routes {
    pub(crate) fn new(metrics: ComponentMetrics) -> Self {
        Self { routes: Arc::default(), metrics }
    }

    /// Lets `handler` answer everything at and below `path`.
    pub(super) fn add(&self, path: &str, component: &str, handler: Handler) {
        let route = Route { component: component.to_owned(), handler: Arc::new(handler) };
        self.routes
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.trim_end_matches('/').to_owned(), route);
    }

    pub(super) fn remove(&self, path: &str) {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.remove(path.trim_end_matches('/'));
    }

    /// The component whose path is the longest that `path` is at or below.
    fn find(&self, path: &str) -> Option<Route> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut prefix = path.trim_end_matches('/');
        loop {
            if let Some(route) = routes.get(prefix) {
                return Some(route.clone());
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

/// What a component answers, if one has the path.
pub(crate) async fn answer(State(routes): State<Routes>, request: Request) -> Response {
    let Some(route) = routes.find(request.uri().path()) else {
        return (StatusCode::NOT_FOUND, "there is nothing here\n").into_response();
    };
    let answer = route.handler.answer(request).await;
    let came = if answer.failure.is_some() { Came::Failed } else { Came::Done };
    routes.metrics.request(&route.component, came);
    if let Some(error) = answer.failure {
        tracing::warn!(component = %route.component, "{error:?}");
    }
    answer.response.map(Body::new)
}
