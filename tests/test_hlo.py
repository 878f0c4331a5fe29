"""The reader of compiled programs, on a program of seven lines."""

TEXT = """HloModule jit_f, entry_computation_layout={(f32[8,4]{1,0})->f32[8,4]{1,0}}

%layer (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  %gathered = f32[64,4]{1,0} all-gather(%p), dimensions={0}
  ROOT %scattered = f32[8,4]{1,0} reduce-scatter(%gathered), to_apply=%sum
}

%last (q: f32[8,4]) -> f32[8,4] {
  ROOT %q = f32[8,4]{1,0} parameter(0)
}

%body (c: (pred[], f32[8,4])) -> (pred[], f32[8,4]) {
  %c = (pred[], f32[8,4]{1,0}) parameter(0)
  %is_last = pred[] get-tuple-element(%c), index=0
  %x = f32[8,4]{1,0} get-tuple-element(%c), index=1
  %y = f32[8,4]{1,0} conditional(%is_last, %x, %x), true_computation=%last, false_computation=%layer
  ROOT %out = (pred[], f32[8,4]{1,0}) tuple(%is_last, %y)
}

ENTRY %main (a: (pred[], f32[8,4])) -> (pred[], f32[8,4]) {
  %a = (pred[], f32[8,4]{1,0}) parameter(0)
  %two = f32[2]{0} constant({1, 2})
  %start = (f32[2]{0}, f32[16]{0}) all-gather-start(%two), dimensions={0}
  ROOT %loop = (pred[], f32[8,4]{1,0}) while(%a), condition=%c, body=%body, TRIPS
}
"""
KNOWN = 'backend_config={"known_trip_count":{"n":"18"}}'


def test_a_collective_counts_as_often_as_it_runs(hlo):
    """Seventeen of eighteen layers gather [64, 4] and scatter it again; one gather is outside."""
    program = hlo.parse(TEXT.replace("TRIPS", KNOWN))
    moved = hlo.collective_bytes(program)
    assert moved["all-gather"] == 17 * 64 * 4 * 4 + 16 * 4
    assert moved["reduce-scatter"] == 17 * 64 * 4 * 4


def test_an_unknown_number_of_turns_is_given(hlo):
    program = hlo.parse(TEXT.replace("TRIPS", ""))
    assert hlo.collective_bytes(program, 10)["reduce-scatter"] == 9 * 64 * 4 * 4


def test_types_hold_all_arrays_of_a_tuple(hlo):
    assert hlo.size("(bf16[2,3]{1,0}, /*index=1*/ f32[5]{0:T(128)}, pred[])") == 12 + 20 + 1
