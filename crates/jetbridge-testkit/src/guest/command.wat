  ;; A command: its first argument is what it does.
  ;;   count [IDENTIFIER [KEY]]  adds 1 and prints the sum      read IDENTIFIER KEY  prints the length
  ;;   add IDENTIFIER KEY N      adds 1 N times and prints each sum
  ;;   plus | get | set, likewise: N calls of one function, and nothing printed
  ;;   keys IDENTIFIER           prints how many keys the listing has
  ;;   many IDENTIFIER - N       asks for the keys k0000, k0001, … in one call
  ;;   fail | exit | trap | loop | grow
  (import "wasi:keyvalue/store@0.2.0-draft" "open" (func $open (param i32 i32 i32)))
  (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.get"
    (func $get (param i32 i32 i32 i32)))
  (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.set"
    (func $set (param i32 i32 i32 i32 i32 i32)))
  (import "wasi:keyvalue/store@0.2.0-draft" "[method]bucket.list-keys"
    (func $list (param i32 i32 i64 i32)))
  (import "wasi:keyvalue/batch@0.2.0-draft" "get-many" (func $get-many (param i32 i32 i32 i32)))
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
  (func $number (param $i i32) (result i32) (local $at i32) (local $end i32) (local $n i32)
    (call $argument (local.get $i) (i32.const 0) (i32.const 0))
    (local.set $end)
    (local.set $at)
    (local.set $end (i32.add (local.get $at) (local.get $end)))
    (block $done
      (loop $digit
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (local.set $n (i32.add (i32.mul (local.get $n) (i32.const 10))
          (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $digit)))
    (local.get $n))
  ;; Says the error of the result at `at`, whose payload is at `payload`, and fails if it is one.
  (func $failed (param $at i32) (param $payload i32) (result i32)
    (if (i32.load8_u (local.get $at)) (then (call $say (local.get $payload))))
    (i32.load8_u (local.get $at)))
  (func $once (param $verb i32) (param $b i32) (param $key i32) (param $length i32) (result i32)
    (if (i32.eq (local.get $verb) (i32.const 103)) ;; get
      (then
        (call $get (local.get $b) (local.get $key) (local.get $length) (i32.const 192))
        (return (call $failed (i32.const 192) (i32.const 196)))))
    (if (i32.eq (local.get $verb) (i32.const 115)) ;; set
      (then
        (call $set (local.get $b) (local.get $key) (local.get $length) (i32.const 256)
          (i32.const 128) (i32.const 192))
        (return (call $failed (i32.const 192) (i32.const 196)))))
    (call $increment (local.get $b) (local.get $key) (local.get $length) (i64.const 1)
      (i32.const 192))
    (if (call $failed (i32.const 192) (i32.const 200)) (then (return (i32.const 1))))
    (if (i32.ne (local.get $verb) (i32.const 112)) (then (call $print (i64.load (i32.const 200)))))
    (i32.const 0))
  (func $keys (param $b i32) (result i32) (local $n i64) (local $brk i32) (local $more i32)
    (local $cursor i64)
    (local.set $brk (global.get $brk))
    (loop $page
      (call $list (local.get $b) (local.get $more) (local.get $cursor) (i32.const 192))
      (if (call $failed (i32.const 192) (i32.const 200)) (then (return (i32.const 1))))
      (local.set $n (i64.add (local.get $n) (i64.extend_i32_u (i32.load (i32.const 204)))))
      (local.set $more (i32.load8_u (i32.const 208)))
      (local.set $cursor (i64.load (i32.const 216)))
      (global.set $brk (local.get $brk))
      (br_if $page (local.get $more)))
    (call $print (local.get $n))
    (i32.const 0))
  ;; Asks for the keys `k0000`, `k0001`, … in one call.
  (func $many (param $b i32) (param $n i32) (result i32)
    (local $list i32) (local $i i32) (local $name i32) (local $entry i32)
    (local.set $list (call $alloc (i32.const 0) (i32.const 0) (i32.const 8)
      (i32.mul (local.get $n) (i32.const 8))))
    (local.set $name (call $alloc (i32.const 0) (i32.const 0) (i32.const 8)
      (i32.mul (local.get $n) (i32.const 8))))
    (loop $next
      (local.set $entry (i32.add (local.get $list) (i32.mul (local.get $i) (i32.const 8))))
      (i32.store (local.get $entry) (local.get $name))
      (i32.store offset=4 (local.get $entry) (i32.const 5))
      (i32.store8 (local.get $name) (i32.const 107))
      (i32.store8 offset=1 (local.get $name) (call $digit (local.get $i) (i32.const 1000)))
      (i32.store8 offset=2 (local.get $name) (call $digit (local.get $i) (i32.const 100)))
      (i32.store8 offset=3 (local.get $name) (call $digit (local.get $i) (i32.const 10)))
      (i32.store8 offset=4 (local.get $name) (call $digit (local.get $i) (i32.const 1)))
      (local.set $name (i32.add (local.get $name) (i32.const 8)))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (local.get $n))))
    (call $get-many (local.get $b) (local.get $list) (local.get $n) (i32.const 192))
    (call $failed (i32.const 192) (i32.const 196)))
  (func $digit (param $n i32) (param $unit i32) (result i32)
    (i32.add (i32.const 48)
      (i32.rem_u (i32.div_u (local.get $n) (local.get $unit)) (i32.const 10))))
  (func (export "wasi:cli/run@0.2.0#run") (result i32) (local $verb i32) (local $b i32)
    (local $key i32) (local $length i32) (local $n i32) (local $second i32) (local $brk i32)
    (call $arguments (i32.const 128))
    (call $argument (i32.const 1) (i32.const 0) (i32.const 0))
    drop
    (local.set $b)
    (local.set $verb (i32.load8_u (local.get $b)))
    (local.set $second (i32.load8_u offset=1 (local.get $b)))
    (if (i32.eq (local.get $verb) (i32.const 102)) (then (return (i32.const 1)))) ;; fail
    (if (i32.eq (local.get $second) (i32.const 120)) (then (call $exit (i32.const 1)))) ;; exit
    (if (i32.eq (local.get $verb) (i32.const 116)) (then unreachable)) ;; trap
    (if (i32.eq (local.get $verb) (i32.const 108)) (then (call $spin))) ;; loop
    (if (i32.eq (local.get $second) (i32.const 114)) (then (call $grow))) ;; grow
    (call $argument (i32.const 2) (i32.const 16) (i32.const 0))
    (call $open (i32.const 160))
    (if (call $failed (i32.const 160) (i32.const 164)) (then (return (i32.const 1))))
    (local.set $b (i32.load (i32.const 164)))
    (call $argument (i32.const 3) (i32.const 32) (i32.const 1))
    (local.set $length)
    (local.set $key)
    (if (i32.eq (local.get $verb) (i32.const 107)) (then (return (call $keys (local.get $b)))))
    (if (i32.eq (local.get $verb) (i32.const 114)) ;; read
      (then
        (call $get (local.get $b) (local.get $key) (local.get $length) (i32.const 192))
        (if (call $failed (i32.const 192) (i32.const 196)) (then (return (i32.const 1))))
        (call $print (i64.extend_i32_u (i32.load (i32.const 204))))
        (return (i32.const 0))))
    (local.set $n (call $number (i32.const 4)))
    (if (i32.eq (local.get $verb) (i32.const 109)) ;; many
      (then (return (call $many (local.get $b) (local.get $n)))))
    (local.set $brk (global.get $brk))
    (loop $again
      (if (call $once (local.get $verb) (local.get $b) (local.get $key) (local.get $length))
        (then (return (i32.const 1))))
      (global.set $brk (local.get $brk))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br_if $again (i32.gt_s (local.get $n) (i32.const 0))))
    (i32.const 0))
