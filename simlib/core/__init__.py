"""The rules. No clock, no I/O, no generator object: every driver calls the same functions.

One source runs in three ways: SimPy and asyncio call it as ordinary Python, and numba compiles the
same functions for the loop of `engines.compiled`. All three must agree to the last bit. This page
says which Python can be all three.

**What a rule is.** A function of numbers and of state that it is given: the time is an argument, a
random number is `draws.uniform` at an address, and bytes are numbers from a table. A rule reads no
clock, draws from no generator, does no I/O and builds no table; `tests/test_architecture.py` reads
the imports. Facts that are not computed, such as which policies retry, are rows of a table beside
the rule (`reconnect.POLICIES`, `faults.FAULTS`). Compiled code cannot look into a dict; what it
needs of the rows is packed into bytes and indexed by a number (`reconnect._IS_DRAWN`).

**What it may be made of.** Numbers and booleans; `NamedTuple` classes for settings that never
change; for state, an object with attributes (`client_state.Client`), in whose place compiled code
has a row of an array with the same names (`client_state.ROW`); sequences that are read by index and
length, since a list in one world is an array in the other. `engines.compiled.numba_support` finds
every module of this package and compiles each function that a loop calls. What only prepares a run
or reads its end is ordinary Python, with NumPy if it likes: `wire`, `bucketing`, the functions of
arrays in `draws` and `elementary`, `faults.fault_events_of`, the class `record.Record`.

**What numba needs.** Each line below was tried with the version in the lock file.

- Nothing may be allocated: no list, dict, set or array is made, because the loop runs without
  reference counting. Tuples and named tuples are free.
- No generator expression, no ``try``, no starred assignment, no ``_replace``, and no parameters
  that are keyword-only. Calls give their arguments by position: it is how all rules are called,
  and a second body must otherwise repeat every parameter's name.
- Functions cannot be picked from a dict or a tuple. A choice by kind is a chain of ``if``, as in
  `reconnect.delay_s`.
- Members of an enum are compared with ``==``, never with ``is``: a state that comes from an array
  is a number, and no number *is* a member. Members of two enums in one tuple cannot be searched
  with ``in``, so write the comparisons out.
- Each field of a named tuple has exactly one type, and so has what a function returns, except that
  whole numbers of several widths are made one. A member of an enum is a type of its own, and so is
  a one-byte number of a row. Where such a value meets others, write ``Resume.LOST + 0`` or
  ``row.transport + 0``: the sum is a plain number. ``n_bytes + 0.0`` makes a float of what may be a
  whole number. This also saves time, as numba compiles a function once for each combination of
  types that it is called with.
- A tuple that holds a row of an array can be made and passed on, but not returned.
- A row of an array wraps around: one byte holds -128 to 127. Bound what it counts, as
  `client` bounds its fall-backs. Whole numbers of 64 bits wrap too, where Python's grow.
- Dividing by zero raises in Python and yields infinity, or 0, in compiled code. Test first.

**Floats.** The result of a sum depends on its order, so the order of operations is a part of the
rule: a change of it changes runs, and the golden digests show it. Compilers are told not to reorder
(no ``fastmath``). ``x**k`` differs between Python and compiled code in the last bit, so delays grow
by repeated multiplication. ``log``, ``exp`` and ``cos`` of `math` ask the C library, and libraries
differ from machine to machine; those of `elementary` use arithmetic alone. ``math.sqrt``,
``math.floor`` and ``math.ceil`` are exact everywhere and may be used.

**A second body.** A few functions cannot be compiled as they stand, or take one machine
instruction where Python takes many steps: `draws._multiply`, `elementary.take_apart` and
`power_of_two`, `record.bucket_of`, `keep_row` and `rows_left`, `client_state.refuse`,
`server.grow_backlog`. Each has an ``@overload`` in `engines.compiled.numba_support`, and its name
stands in ``_OWN`` there. Give a new one a test that compares the two:
`tests/engines/test_numba_support.py` holds draws and buckets, `tests/core/test_elementary.py` the
elementary functions. The others are held by the tests that compare whole runs of both engines
(`tests/engines/test_compiled_engine.py`).

To try a rule without waiting for the compiler, set ``NUMBA_DISABLE_JIT=1``. The compiled engine
then calls the functions as they are written here. That does not show what numba refuses.
"""
