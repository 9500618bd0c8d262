"""Recordings of what two models say, and all that can be learned from one without running them again.

In the order in which to read: `format` says what a file holds, `recorder` what an engine gives. `recording` and
`writing` put it on disk, `files` and `trace` read it; `shards` are its parts, and a `fleet` records on a `pool`.
`replay` runs policies on it, at costs from `costs`; `lanes` does so at many costs at once. `bounds` says what nobody
can beat, `comparison` puts policies side by side, `space` and `tuning` search their fields, `scorers` on a pool.
`servers`, `batches` and `nearest` say what servers can be told instead, and `report` makes a page of it.
"""
