//! Components that use wasi:keyvalue, made when a test asks for them: no toolchain for
//! WebAssembly is needed. What each does is said in its text.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId};

const WIT: &str = include_str!("guest/guest.wit");
/// What every guest has: memory, and an allocator that never frees within a call.
pub const RUNTIME: &str = include_str!("guest/runtime.wat");

/// A command, for `wasi run`.
pub fn command() -> Vec<u8> {
    component(WIT, "command", &module(include_str!("guest/command.wat")))
}

/// A handler of HTTP, for `wasi serve`.
pub fn http() -> Vec<u8> {
    component(WIT, "proxy", &module(include_str!("guest/http.wat")))
}

/// A watcher, for `watch:`.
pub fn watcher() -> Vec<u8> {
    component(WIT, "watch", &module(include_str!("guest/watcher.wat")))
}

fn module(wat: &str) -> String {
    let starts = wat.rfind("(import").unwrap_or(0);
    let ends = wat[starts..].find("\n  (data").or_else(|| wat[starts..].find("\n  (func"));
    let (imports, own) = wat.split_at(starts + ends.unwrap_or(0));
    format!("(module {imports} {RUNTIME} {own})")
}

/// The component of the core module `wat` in the world `world` of `wit`.
///
/// # Panics
/// If they do not fit together.
pub fn component(wit: &str, world: &str, wat: &str) -> Vec<u8> {
    let (resolve, world) = parse(wit, world);
    encode(&resolve, world, wat)
}

/// The world `world` of the package `wit`.
///
/// # Panics
/// If there is none.
pub fn parse(wit: &str, world: &str) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("guest.wit", wit).expect("WIT that can be read");
    let world = resolve.select_world(&[package], Some(world)).expect("a world of that name");
    (resolve, world)
}

/// As [`component`], of what [`parse`] has read.
///
/// # Panics
/// If the module is not one of the world.
pub fn encode(resolve: &Resolve, world: WorldId, wat: &str) -> Vec<u8> {
    let mut core = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    embed_component_metadata(&mut core, resolve, world, StringEncoding::UTF8)
        .expect("a module of the world");
    let encoder = ComponentEncoder::default().module(&core).expect("a module of the world");
    encoder.validate(true).encode().expect("a component")
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_guest_is_a_valid_component() {
        for component in [super::command(), super::http(), super::watcher()] {
            assert!(component.starts_with(b"\0asm"), "it is validated when it is made");
        }
    }
}
