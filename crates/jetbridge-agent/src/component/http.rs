//! Paths that components answer. They are found behind everything that `up` itself answers.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, PoisonError, RwLock};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jetbridge::wasi::host::Handler;
use tokio::sync::oneshot;

use super::metrics::{Came, ComponentMetrics};

/// When to ask again for a component that does not run: most are there within it.
const RETRY_AFTER_SECONDS: &str = "1";

/// The components that answer, by their paths. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    routes: Arc<RwLock<BTreeMap<String, Arc<Route>>>>,
    metrics: ComponentMetrics,
}

#[derive(Debug)]
struct Route {
    component: String,
    /// `None` while the component does not run.
    handler: RwLock<Option<Arc<Answering>>>,
}

/// A handler as long as the route, or a request that came by it, has it.
#[derive(Debug)]
struct Answering {
    handler: Handler,
    /// Tells by its drop.
    _gone: oneshot::Sender<Infallible>,
}

impl Routes {
    pub(crate) fn new(metrics: ComponentMetrics) -> Self {
        Self { routes: Arc::default(), metrics }
    }

    /// Keeps everything at and below `path` for a component, until the claim is dropped or
    /// another one has it.
    pub(super) fn claim(&self, path: &str, component: &str) -> Claim {
        let path = path.trim_end_matches('/').to_owned();
        let route = Arc::new(Route { component: component.to_owned(), handler: RwLock::default() });
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        routes.insert(path.clone(), Arc::clone(&route));
        Claim { routes: self.clone(), path, route }
    }

    /// The component whose path is the longest that `path` is at or below.
    fn find(&self, path: &str) -> Option<Arc<Route>> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut prefix = path.trim_end_matches('/');
        loop {
            if let Some(route) = routes.get(prefix) {
                return Some(Arc::clone(route));
            }
            prefix = &prefix[..prefix.rfind('/')?];
        }
    }
}

/// A path that is a component's.
#[derive(Debug)]
pub(super) struct Claim {
    routes: Routes,
    path: String,
    route: Arc<Route>,
}

impl Claim {
    /// Lets `handler` answer from now on. What is returned ends when another does, and the last
    /// request that came by this one has its answer.
    pub(super) fn answer_by(&self, handler: Handler) -> oneshot::Receiver<Infallible> {
        let (gone, is_gone) = oneshot::channel();
        self.put(Some(Arc::new(Answering { handler, _gone: gone })));
        is_gone
    }

    /// Says from now on that the component does not run.
    pub(super) fn answer_nobody(&self) {
        self.put(None);
    }

    fn put(&self, handler: Option<Arc<Answering>>) {
        *self.route.handler.write().unwrap_or_else(PoisonError::into_inner) = handler;
    }
}

impl Drop for Claim {
    /// Leaves a path that has become somebody else's.
    fn drop(&mut self) {
        let mut routes = self.routes.routes.write().unwrap_or_else(PoisonError::into_inner);
        if routes.get(&self.path).is_some_and(|route| Arc::ptr_eq(route, &self.route)) {
            routes.remove(&self.path);
        }
    }
}

/// What a component answers, if one has the path.
pub(crate) async fn answer(State(routes): State<Routes>, request: Request) -> Response {
    let Some(route) = routes.find(request.uri().path()) else {
        return (StatusCode::NOT_FOUND, "there is nothing here\n").into_response();
    };
    let handler = route.handler.read().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(answering) = handler else {
        let words = format!("component {} does not run now: see /v1/status\n", route.component);
        let retry = [(header::RETRY_AFTER, RETRY_AFTER_SECONDS)];
        return (StatusCode::SERVICE_UNAVAILABLE, retry, words).into_response();
    };
    let answer = answering.handler.answer(request).await;
    let came = if answer.failure.is_some() { Came::Failed } else { Came::Done };
    routes.metrics.request(&route.component, came);
    if let Some(error) = answer.failure {
        tracing::warn!(component = %route.component, "{error:?}");
    }
    answer.response.map(Body::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_somebody_elses_by_now_stays_theirs() {
        let routes = Routes::default();
        let before = routes.claim("/a/", "before");
        let after = routes.claim("/a", "after");
        drop(before);
        assert_eq!(routes.find("/a/b").unwrap().component, "after");
        drop(after);
        assert!(routes.find("/a/b").is_none());
    }
}
