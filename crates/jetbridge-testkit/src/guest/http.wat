  ;; Answers each request with how often its path was asked for: a counter in the store "".
  ;; A path of /trap, /loop or /grow does that; /auth traps if an Authorization came with it.
  (import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
  (import "wasi:keyvalue/store@0.2.0-draft" "[resource-drop]bucket" (func $drop-bucket (param i32)))
  (import "wasi:keyvalue/atomics@0.2.0-draft" "increment"
    (func $increment (param i32 i32 i32 i64 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.path-with-query"
    (func $path (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-request.headers"
    (func $headers (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]fields.has"
    (func $has (param i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.0" "[constructor]outgoing-response"
    (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-response.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-body.write" (func $begin (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]outgoing-body.finish"
    (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.0" "[static]response-outparam.set"
    (func $answer (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (import "wasi:io/streams@0.2.0" "[resource-drop]output-stream" (func $drop-stream (param i32)))
  (data (i32.const 512) "authorization")
  (func (export "wasi:http/incoming-handler@0.2.0#handle") (param $request i32) (param $out i32)
    (local $key i32) (local $length i32) (local $bucket i32) (local $at i32) (local $stream i32)
    (local $response i32)
    (call $path (local.get $request) (i32.const 128))
    (local.set $key (i32.add (i32.load (i32.const 132)) (i32.const 1)))
    (local.set $length (i32.sub (i32.load (i32.const 136)) (i32.const 1)))
    (if (i32.eq (local.get $length) (i32.const 4))
      (then
        (if (i32.eq (i32.load (local.get $key)) (i32.const 0x70617274)) (then unreachable))
        (if (i32.eq (i32.load (local.get $key)) (i32.const 0x68747561))
          (then
            (if (call $has (call $headers (local.get $request)) (i32.const 512) (i32.const 13))
              (then unreachable))))
        (if (i32.eq (i32.load (local.get $key)) (i32.const 0x706f6f6c)) (then (call $spin)))
        (if (i32.eq (i32.load (local.get $key)) (i32.const 0x776f7267)) (then (call $grow)))))
    (call $open (i32.const 0) (i32.const 0) (i32.const 160))
    (if (i32.load8_u (i32.const 160)) (then unreachable))
    (local.set $bucket (i32.load (i32.const 164)))
    (call $increment (local.get $bucket) (local.get $key) (local.get $length) (i64.const 1)
      (i32.const 192))
    (if (i32.load8_u (i32.const 192)) (then unreachable))
    (call $drop-bucket (local.get $bucket))
    (local.set $at (call $decimal (i64.load (i32.const 200))))
    (local.set $response (call $response (call $fields)))
    (call $body (local.get $response) (i32.const 224))
    (call $answer (local.get $out) (i32.const 0) (local.get $response) (i32.const 0) (i64.const 0)
      (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $begin (i32.load (i32.const 228)) (i32.const 240))
    (local.set $stream (i32.load (i32.const 244)))
    (call $write (local.get $stream) (local.get $at) (i32.sub (i32.const 1024) (local.get $at))
      (i32.const 256))
    (call $drop-stream (local.get $stream))
    (call $finish (i32.load (i32.const 228)) (i32.const 0) (i32.const 0) (i32.const 288)))
