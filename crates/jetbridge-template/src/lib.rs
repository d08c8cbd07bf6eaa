//! Templates: merge YAML files, evaluate the operators `(( … ))` in them, print the result as it
//! was written.
//!
//! Merging and the classic operators behave as in spruce; `(( nats … ))`, `split`, infix
//! arithmetic, ternaries and nested calls are those of graft. Everything but
//! [`render`]'s reading of stores is a pure function of its inputs; [`Renderer`] keeps a file what
//! it gives. Nothing here reads the environment, prints, or knows how to connect.
//!
//! ```
//! use jetbridge_template::{Input, Options, merge};
//!
//! let base = Input::new("base.yml", "# the port\nport: 8080\nurl: (( concat \"http://h:\" port ))\n");
//! let prod = Input::new("prod.yml", "port: 80\n");
//! let rendered = merge(vec![base, prod], &Options::default())?;
//! assert_eq!(rendered.text, "# the port\nport: 80\nurl: http://h:80\n");
//! # Ok::<(), jetbridge_template::Failure>(())
//! ```

mod diff;
mod emit;
mod error;
mod eval;
mod explain;
mod expr;
mod fan;
mod fetch;
mod infix;
mod lex;
mod list;
mod merge;
mod op;
mod parse;
mod patch;
mod plan;
mod post;
mod prescan;
mod refs;
mod render;
mod renderer;
mod scalar;
mod scan;
mod snippet;
mod stamp;
mod tag;
mod tree;
mod typing;
mod wording;
mod written;

pub use diff::{Change, Difference, diff};
pub use emit::Style;
pub use error::{Diagnostic, Failure, Place};
pub use explain::{Explanation, explain};
pub use fan::fan;
pub use fetch::{NoSources, OBJECT_BYTES_MAX, Server, Sources};
pub use refs::{StoreRef, StoreValue, refs};
pub use render::{
    Input, Missing, Options, Origin, ReadValue, Rendered, StoreKind, Streams, document_count, json,
    merge, render, strict_json,
};
pub use renderer::{
    Event, Preview, Reload, ReloadSignal, RenderFailure, RenderSpec, Renderer, Rendering, Stage,
    Wait,
};

pub(crate) use render::Files;
