//! Traces: what `up` does, as spans, sent to a collector by OTLP over HTTP.
//!
//! Only spans leave: what goes wrong in words is the log's business, and a span says of it no more
//! than its kind. Nothing waits for a collector. Spans that end are put into a queue of a fixed
//! size, a thread of its own sends them in batches, and what finds no room is dropped.

mod courier;
mod parent;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use jetbridge::settings::Environment;
use jetbridge_core::wrap::{Layered, Observed};
use jetbridge_core::{Backend, Error, ErrorKind, Result};
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use self::courier::Courier;
pub(crate) use self::parent::{TRACEPARENT, follow, traceparent};
use self::settings::Settings;

/// Spans that wait to be sent, at most; more are dropped.
const WAITING_MAX: usize = 4096;
/// Spans sent at once, at most.
const BATCH_MAX: usize = 512;
/// How long a span may wait for others to be sent with it.
const SEND_EVERY: Duration = Duration::from_secs(5);
/// How long the last spans may take when the process ends.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);
/// What the targets of all our crates begin with.
const OURS: &str = "jetbridge";

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// Sends to the collector that the standard variables name (`OTEL_EXPORTER_OTLP_ENDPOINT` and
    /// its relatives); `None` if they name none.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a variable whose value means nothing or asks
    /// for what cannot be had; [`Unavailable`](ErrorKind::Unavailable) if the system's
    /// certificates cannot be read.
    pub fn start(environment: &Environment) -> Result<Option<Self>> {
        let Some(settings) = Settings::read(environment)? else { return Ok(None) };
        let courier = Courier::new(&settings)?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(courier)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(settings.endpoint.to_string())
            .with_headers(settings.headers)
            .with_timeout(settings.timeout)
            .build()
            .map_err(|error| {
                Error::new(ErrorKind::InvalidInput, "traces.start")
                    .because("the variables `OTEL_EXPORTER_OTLP_…` ask for what cannot be had")
                    .caused_by(error)
            })?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING_MAX)
            .with_max_export_batch_size(BATCH_MAX)
            .with_scheduled_delay(SEND_EVERY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let mut resource = Resource::builder().with_attribute(version);
        if let Some(name) = settings.service_name {
            resource = resource.with_service_name(name);
        }
        let provider = SdkTracerProvider::builder()
            .with_resource(resource.build())
            .with_span_processor(processor)
            .build();
        Ok(Some(Self { provider }))
    }

    /// What hears the spans of this process, to be put into its subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer(OURS))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| {
                let is_ours = metadata.target().starts_with(OURS);
                metadata.is_span() && is_ours && *metadata.level() <= Level::DEBUG
            }))
    }

    /// `backend`, with a span for each operation.
    pub fn around(&self, backend: Arc<dyn Backend>) -> Arc<dyn Backend> {
        Arc::new(Layered::new(backend, Observed::new()))
    }

    /// Sends what waits, for [`STOP_TIMEOUT`] at most. Blocks meanwhile.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(STOP_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
