  ;; Memory, an allocator that never frees within a call, and what every guest needs of text.
  (memory (export "memory") 16)
  (global $brk (mut i32) (i32.const 4096))
  (func $alloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $brk) (i32.const 15)) (i32.const -16)))
    (global.set $brk (i32.add (local.get $at) (local.get 3)))
    (block $enough
      (loop $more
        (br_if $enough (i32.le_u (global.get $brk) (i32.mul (memory.size) (i32.const 65536))))
        (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
        (br $more)))
    (local.get $at))
  ;; A number in decimal, a line end behind it: its text ends at 1024.
  (func $decimal (param $n i64) (result i32) (local $at i32)
    (local.set $at (i32.const 1023))
    (i32.store8 (local.get $at) (i32.const 10))
    (loop $digit
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at)
        (i32.add (i32.const 48) (i32.wrap_i64 (i64.rem_u (local.get $n) (i64.const 10)))))
      (local.set $n (i64.div_u (local.get $n) (i64.const 10)))
      (br_if $digit (i64.ne (local.get $n) (i64.const 0))))
    (local.get $at))
  ;; Asks for memory without end.
  (func $grow (loop $more (drop (memory.grow (i32.const 160))) (br $more)))
  (func $spin (loop $more (br $more)))
