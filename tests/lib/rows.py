# SPDX-License-Identifier: Apache-2.0
"""Tables of requests with the answers they must get."""

DESERIALIZING = ("An error occurred when deserializing the json body of a "
                 "request: ")


def check(t, m, rows):
    """Rows of (method, path, body, None for 204 or part of the fault)."""
    for method, path, body, text in rows:
        status, answer = m.api(method, path, body)
        name = "%s %s %s" % (method, path, body)
        if len(name) > 100:
            name = name[:97] + "..."
        name = ascii(name)[1:-1].replace("#", "")
        if text is None:
            good = status == 204
        else:
            good = status == 400 and text in answer.get("fault_message", "")
        t.point(good, name, "%s %s\nwanted: %s" % (status, answer, text))
    assert m.alive()
