"""Reading documents in sandboxed child processes, one fresh child per document.

`sandbox` is the parent's side and all that others import. `child` is the zygote: it imports PyMuPDF once and forks.
`confine` builds a child's walls, `formats` reads PDF and text inside them, `wire` is what the two sides say.
"""
