//! Components made at test time: no toolchain for wasm is needed.
//!
//! A pass-through exports every function of the interfaces that its world imports, so that tests
//! in Rust speak through the real component ABI.

use std::fmt::Write as _;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{
    Function, FunctionKind, Handle, Resolve, Type, TypeDefKind, WorldId, WorldItem, WorldKey,
};

/// What every guest has: memory, an allocator that never frees within a call.
pub(crate) const RUNTIME: &str = r#"
  (memory (export "memory") 16)
  (global $brk (mut i32) (i32.const 1024))
  (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $brk) (i32.const 15)) (i32.const -16)))
    (global.set $brk (i32.add (local.get $at) (local.get 3)))
    (block $enough
      (loop $more
        (br_if $enough (i32.le_u (global.get $brk) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        (br $more)))
    (local.get $at))
"#;

/// The component of the core module `wat` in the world `world` of the package `wit`.
pub(crate) fn component(wit: &str, world: &str, wat: &str) -> Vec<u8> {
    let (resolve, world) = parse(wit, world);
    encode(&resolve, world, wat)
}

/// The pass-through of the world `pass` of the package `wit`.
pub(crate) fn pass_through(wit: &str) -> Vec<u8> {
    let (resolve, world) = parse(wit, "pass");
    let wat = pass_through_core(&resolve, world);
    encode(&resolve, world, &wat)
}

fn parse(wit: &str, world: &str) -> (Resolve, WorldId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("guest.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    (resolve, world)
}

fn encode(resolve: &Resolve, world: WorldId, wat: &str) -> Vec<u8> {
    let mut core = wat::parse_str(wat).unwrap_or_else(|error| panic!("{error}\n{wat}"));
    embed_component_metadata(&mut core, resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&core).unwrap().validate(true).encode().unwrap()
}

/// Each import under the name that the world exports it by: behind its dialect, if there are
/// several.
fn pass_through_core(resolve: &Resolve, world: WorldId) -> String {
    let (mut imports, mut exports) = (String::new(), String::new());
    let packages = resolve.worlds[world].imports.keys().filter_map(|key| match key {
        WorldKey::Interface(id) => resolve.interfaces[*id].package,
        WorldKey::Name(_) => None,
    });
    let is_alone = packages.collect::<std::collections::BTreeSet<_>>().len() == 1;
    for (key, item) in &resolve.worlds[world].imports {
        let (WorldKey::Interface(id), WorldItem::Interface { .. }) = (key, item) else { continue };
        let module = resolve.id_of(*id).unwrap();
        let dialect = match module.split_once("@0.2.0-") {
            _ if is_alone => String::new(),
            Some((_, dialect)) => format!("{dialect}-"),
            None => "wasmcloud-".to_owned(),
        };
        for (name, id) in &resolve.interfaces[*id].types {
            if matches!(resolve.types[*id].kind, TypeDefKind::Resource) {
                let drop = format!("[resource-drop]{name}");
                writeln!(
                    imports,
                    r#"(import "{module}" "{drop}" (func $drop-{dialect}{name} (param i32)))"#
                )
                .unwrap();
            }
        }
        for function in resolve.interfaces[*id].functions.values() {
            let passed = Passed { module: &module, dialect: &dialect, function };
            pass(resolve, passed, (&mut imports, &mut exports));
        }
    }
    format!("(module {imports} {RUNTIME} {exports})")
}

/// A function that is passed through.
struct Passed<'a> {
    module: &'a str,
    dialect: &'a str,
    function: &'a Function,
}

fn pass(resolve: &Resolve, passed: Passed<'_>, (imports, exports): (&mut String, &mut String)) {
    let Passed { module, dialect, function } = passed;
    let name = match function.kind {
        FunctionKind::Static(_) | FunctionKind::AsyncStatic(_) => {
            function.name.replace("[static]", "").replace('.', "-")
        }
        _ if function.name.starts_with("[method]cas.") => {
            format!("cas-{}", function.item_name())
        }
        _ => function.item_name().to_owned(),
    };
    let name = format!("{dialect}{name}");
    let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
    assert!(signature.retptr && signature.results.is_empty(), "{name} returns a result");
    let all: Vec<&str> = signature.params.iter().map(wasm_type).collect();
    let params = &all[..all.len() - 1];
    let own = &function.name;
    writeln!(imports, r#"(import "{module}" "{own}" (func ${name} (param {})))"#, all.join(" "))
        .unwrap();
    let args: String = (0..params.len()).map(|i| format!("(local.get {i})")).collect();
    let drop = borrowed(resolve, function)
        .map(|resource| format!("(call $drop-{dialect}{resource} (local.get 0))"))
        .unwrap_or_default();
    let params = params.join(" ");
    writeln!(
        exports,
        r#"(func (export "{name}") (param {params}) (result i32) (local $out i32)
             (local.set $out (call $alloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 64)))
             (call ${name} {args} (local.get $out)) {drop} (local.get $out))
           (func (export "cabi_post_{name}") (param i32) (global.set $brk (i32.const 1024)))"#
    )
    .unwrap();
}

/// The resource that the first parameter borrows.
fn borrowed(resolve: &Resolve, function: &Function) -> Option<String> {
    let Type::Id(id) = function.params.first()?.ty else { return None };
    let TypeDefKind::Handle(Handle::Borrow(mut id)) = resolve.types[id].kind else { return None };
    while let TypeDefKind::Type(Type::Id(original)) = resolve.types[id].kind {
        id = original;
    }
    resolve.types[id].name.clone()
}

fn wasm_type(ty: &WasmType) -> &'static str {
    match ty {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::F32 => "f32",
        WasmType::F64 => "f64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
    }
}
