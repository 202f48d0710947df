"""The compiled engine in a page: the same loops, from the same rules, as WebAssembly.

`modules` has numba compile a loop for a page instead of for this processor, and keeps what comes
out; `target` is what numba needs for that, `object_file` makes a module of what LLVM writes,
`block` says how a page calls it. `image` lays a run out in a page's memory, ready to begin.
"""
