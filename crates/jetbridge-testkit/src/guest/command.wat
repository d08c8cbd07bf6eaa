  ;; A command: its first argument is what it does.
  ;;   count [IDENTIFIER [KEY]]  adds 1 and prints the sum      read IDENTIFIER KEY  prints the length
  ;;   fail | exit | trap | loop | grow
  (import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
  (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.get"
    (func $get (param i32 i32 i32 i32)))
  (import "wasi:keyvalue/atomics@0.2.0-draft" "increment"
    (func $increment (param i32 i32 i32 i64 i32)))
  (import "wasi:cli/environment@0.2.0" "get-arguments" (func $arguments (param i32)))
  (import "wasi:cli/exit@0.2.0" "exit" (func $exit (param i32)))
  (import "wasi:cli/stdout@0.2.0" "get-stdout" (func $stdout (result i32)))
  (import "wasi:cli/stderr@0.2.0" "get-stderr" (func $stderr (result i32)))
  (import "wasi:io/streams@0.2.0" "[method]output-stream.blocking-write-and-flush"
    (func $write (param i32 i32 i32 i32)))
  (data (i32.const 16) "default")
  (data (i32.const 32) "n")
  (data (i32.const 40) "no-such-store\0a")
  (data (i32.const 56) "access-denied\0a")
  ;; Says the error at `at` on stderr.
  (func $say (param $at i32)
    (if (i32.eq (i32.load8_u (local.get $at)) (i32.const 2))
      (then (call $write (call $stderr) (i32.load offset=4 (local.get $at))
        (i32.load offset=8 (local.get $at)) (i32.const 256)))
      (else (call $write (call $stderr)
        (i32.add (i32.const 40) (i32.mul (i32.const 16) (i32.load8_u (local.get $at))))
        (i32.const 14) (i32.const 256)))))
  (func $print (param $n i64) (local $at i32)
    (local.set $at (call $decimal (local.get $n)))
    (call $write (call $stdout) (local.get $at)
      (i32.sub (i32.const 1024) (local.get $at)) (i32.const 256)))
  ;; Argument `i`, from 0; else the text at `at`.
  (func $argument (param $i i32) (param $at i32) (param $length i32) (result i32 i32) (local $it i32)
    (if (i32.lt_u (local.get $i) (i32.load (i32.const 132)))
      (then
        (local.set $it (i32.add (i32.load (i32.const 128)) (i32.mul (local.get $i) (i32.const 8))))
        (local.set $at (i32.load (local.get $it)))
        (local.set $length (i32.load offset=4 (local.get $it)))))
    (local.get $at) (local.get $length))
  (func (export "wasi:cli/run@0.2.0#run") (result i32) (local $verb i32)
    (call $arguments (i32.const 128))
    (call $argument (i32.const 1) (i32.const 0) (i32.const 0))
    drop
    (local.set $verb (i32.load8_u))
    (if (i32.eq (local.get $verb) (i32.const 102)) (then (return (i32.const 1)))) ;; fail
    (if (i32.eq (local.get $verb) (i32.const 101)) (then (call $exit (i32.const 1)))) ;; exit
    (if (i32.eq (local.get $verb) (i32.const 116)) (then unreachable)) ;; trap
    (if (i32.eq (local.get $verb) (i32.const 108)) (then (call $spin))) ;; loop
    (if (i32.eq (local.get $verb) (i32.const 103)) (then (call $grow))) ;; grow
    (call $argument (i32.const 2) (i32.const 16) (i32.const 0))
    (call $open (i32.const 160))
    (if (i32.load8_u (i32.const 160)) (then (call $say (i32.const 164)) (return (i32.const 1))))
    (i32.load (i32.const 164))
    (call $argument (i32.const 3) (i32.const 32) (i32.const 1))
    (if (param i32 i32 i32) (i32.eq (local.get $verb) (i32.const 114)) ;; read
      (then
        (call $get (i32.const 192))
        (if (i32.load8_u (i32.const 192)) (then (call $say (i32.const 196)) (return (i32.const 1))))
        (call $print (i64.extend_i32_u (i32.load (i32.const 204))))
        (return (i32.const 0)))
      (else
        (call $increment (i64.const 1) (i32.const 192))
        (if (i32.load8_u (i32.const 192)) (then (call $say (i32.const 200)) (return (i32.const 1))))
        (call $print (i64.load (i32.const 200)))))
    (i32.const 0))
