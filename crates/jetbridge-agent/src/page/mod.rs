//! The status page: what the process knows of its sections, for a person who looks.
//!
//! A page is gathered into a model that knows nothing of HTML, and shown from that alone, so that
//! a test can look at any state without making it happen. Whatever was written by somebody (names,
//! reasons, payloads) reaches HTML only through the escaping of the templates.

mod cards;
mod chart;
mod frame;
mod gather;
mod history;
mod letters;
mod letters_view;
mod model;
mod routes;
#[cfg(test)]
mod tests;
mod view;
mod words;

pub(crate) use self::gather::Desks;
pub(crate) use self::history::sample;
pub(crate) use self::routes::{PageState, routes};
