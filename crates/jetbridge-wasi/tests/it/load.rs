//! Which dialects a component speaks, and those that nobody here does.

use jetbridge_core::ErrorKind;
use jetbridge_wasi::{Dialect, Dialects};
use wasmtime::component::Component;

use crate::assemble::{RUNTIME, component, pass_through};
use crate::guest::{DRAFT, DRAFT2, ENGINE, SPIN, WASMCLOUD};

fn dialects(component: &[u8]) -> jetbridge_core::Result<Vec<Dialect>> {
    let component = Component::new(&ENGINE, component).unwrap();
    Dialects::of(&component, &ENGINE).map(|dialects| dialects.iter().collect())
}

#[test]
fn a_component_tells_its_dialect() {
    for (wit, dialect) in [
        (DRAFT, Dialect::Draft),
        (DRAFT2, Dialect::Draft2),
        (SPIN, Dialect::SpinDraft2),
        (WASMCLOUD, Dialect::WasmCloud),
    ] {
        assert_eq!(dialects(&pass_through(wit)).unwrap(), [dialect]);
    }
}

#[test]
fn an_unknown_dialect_is_named_beside_those_that_are_here() {
    let wit = "package wasi:keyvalue@0.2.0-draft3;
        interface store { open: func(); }
        world w { import store; }";
    let wat =
        format!(r#"(module (import "wasi:keyvalue/store@0.2.0-draft3" "open" (func)) {RUNTIME})"#);
    let error = dialects(&component(wit, "w", &wat)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.fact("import"), Some("wasi:keyvalue/store@0.2.0-draft3"));
    for dialect in Dialect::ALL {
        assert!(error.to_string().contains(dialect.as_str()), "{error}");
    }
}

#[test]
fn both_second_drafts_do_not_fit_one_linker() {
    let both = Dialects::new([Dialect::Draft2, Dialect::SpinDraft2]).unwrap_err();
    assert_eq!(both.kind(), ErrorKind::InvalidInput);
    assert!(Dialects::new([Dialect::Draft, Dialect::Draft2, Dialect::WasmCloud]).is_ok());
}

#[test]
fn a_component_without_it_has_no_dialect() {
    let wit = "package t:t; world w { export run: func(); }";
    let wat = format!(r#"(module (func (export "run")) {RUNTIME})"#);
    assert!(dialects(&component(wit, "w", &wat)).unwrap().is_empty());
}
