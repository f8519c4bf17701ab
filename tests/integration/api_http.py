# SPDX-License-Identifier: Apache-2.0
"""The API as bytes on a socket: framing, limits, rude clients. No guest."""
import os
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "..", "lib"))
from ember import Monitor, TIMEOUT, request_bytes
from tap import main, test

GET_VERSION = b"GET /version HTTP/1.1\r\n\r\n"
NO_CONTENT = (b"HTTP/1.1 204 \r\nServer: Firecracker API\r\n"
              b"Connection: keep-alive\r\n\r\n")
MACHINE = {"vcpu_count": 1, "mem_size_mib": 128}
TOO_MANY = (b"HTTP/1.1 503\r\nServer: Firecracker API\r\nConnection: close\r\n"
            b"Content-Length: 40\r\n\r\n"
            b'{ "error": "Too many open connections" }')
PAYLOAD_MAX = 51200


def parse_error(text):
    return ('{ "error": "%s\\nAll previous unanswered requests will be '
            'dropped." }' % text).encode()


def padded(length):
    """A valid machine configuration of exactly so many bytes."""
    body = b'{"vcpu_count":1,"mem_size_mib":128}'
    return body[:-1] + b" " * (length - len(body)) + b"}"


def refused(m, data, *texts):
    """The bytes are answered by a 400 that says one of the texts, and the
    next request on the same connection is answered as ever."""
    connection = m.connect()
    connection.send(data)
    answer = connection.receive()
    assert answer.status == 400, answer.raw
    assert any(text in answer.body for text in texts), answer.raw
    connection.send(GET_VERSION)
    again = connection.receive()
    assert again.status == 200, again.raw
    connection.close()


@test
def no_content_is_66_bytes(t):
    connection = Monitor(test=t).connect()
    for _ in range(20):
        connection.send(request_bytes("PUT", "/machine-config", MACHINE))
        # One read: header and end of header in one write.
        data = connection.socket.recv(4096)
        assert data == NO_CONTENT and len(data) == 66, data


@test
def body_headers_are_exact(t):
    m = Monitor(test=t)
    connection = m.connect()
    for path, status in (("/version", 200), ("/", 200), ("/nothing", 400)):
        connection.send(request_bytes("GET", path))
        data = connection.socket.recv(4096)
        head, body = data.split(b"\r\n\r\n", 1)
        want = ("HTTP/1.1 %d \r\nServer: Firecracker API\r\n"
                "Connection: keep-alive\r\nContent-Type: application/json\r\n"
                "Content-Length: %d" % (status, len(body)))
        t.point(head == want.encode(), "GET " + path, repr(data))


@test
def http_1_0_is_kept_alive(t):
    connection = Monitor(test=t).connect()
    for _ in range(3):
        connection.send(b"GET /version HTTP/1.0\r\n\r\n")
        answer = connection.receive()
        assert answer.status_line == b"HTTP/1.1 200 ", answer.raw
        assert answer.header(b"Connection") == b"keep-alive", answer.raw


@test
def connection_close_is_obeyed(t):
    connection = Monitor(test=t).connect()
    answer = connection.request("GET", "/version", None,
                                ["Connection: close"])
    assert answer.status == 200, answer.raw
    assert answer.header(b"Connection") == b"close", answer.raw
    assert connection.receive_all() == b""


@test
def pipelined_requests_are_answered_in_order(t):
    connection = Monitor(test=t).connect()
    requests = b""
    for mib in range(1, 21):
        requests += request_bytes("PUT", "/machine-config",
                                  {"vcpu_count": 1, "mem_size_mib": mib})
        requests += request_bytes("GET", "/machine-config")
    connection.send(requests)
    for mib in range(1, 21):
        answer = connection.receive()
        assert answer.raw == NO_CONTENT, answer.raw
        got = connection.receive().json["mem_size_mib"]
        assert got == mib, "%s, not %s" % (got, mib)


@test
def request_in_single_bytes_is_served(t):
    m = Monitor(test=t)
    connection = m.connect()
    for byte in request_bytes("PUT", "/machine-config", MACHINE):
        connection.send(bytes([byte]))
    assert connection.receive().raw == NO_CONTENT


@test
def slow_client_holds_up_nobody(t):
    m = Monitor(test=t)
    slow = [m.connect() for _ in range(5)]
    data = request_bytes("PUT", "/machine-config", MACHINE)
    for i, connection in enumerate(slow):
        connection.send(data[:(i + 1) * len(data) // 6])
    start = time.monotonic()
    for _ in range(20):
        assert m.get("/version")
    assert time.monotonic() - start < TIMEOUT / 2
    for i, connection in enumerate(slow):
        connection.send(data[(i + 1) * len(data) // 6:])
        assert connection.receive().raw == NO_CONTENT


@test
def half_closed_client_gets_its_answer(t):
    m = Monitor(test=t)
    connection = m.connect()
    connection.send(GET_VERSION)
    connection.socket.shutdown(1)  # SHUT_WR
    assert connection.receive().status == 200
    assert connection.receive_all() == b""


@test
def request_cut_short_is_dropped(t):
    m = Monitor(test=t)
    data = request_bytes("PUT", "/machine-config", MACHINE)
    for length in (10, len(data) // 2, len(data) - 1):
        connection = m.connect()
        connection.send(data[:length])
        connection.socket.shutdown(1)  # SHUT_WR
        connection.receive_all()
        connection.close()
    assert m.get("/machine-config")["mem_size_mib"] == 128


@test
def dead_clients_give_their_places_back(t):
    m = Monitor(test=t)
    data = request_bytes("PUT", "/machine-config", MACHINE)
    for length in (0, 1, 10, len(data) - 1, len(data)):
        for _ in range(15):
            connection = m.connect()
            connection.send(data[:length])
            connection.close()
            time.sleep(0.002)
    assert m.get("/version")


@test
def client_that_does_not_read_is_survived(t):
    m = Monitor(test=t)
    for _ in range(30):
        connection = m.connect()
        connection.send(GET_VERSION * 50)
        connection.close()
    assert m.get("/version") and m.alive()


@test
def eleventh_connection_is_turned_away(t):
    m = Monitor(test=t)
    first = []
    deadline = time.monotonic() + TIMEOUT
    # The one that waited for the socket may still be counted.
    while len(first) < 10:
        connection = m.connect()
        connection.send(GET_VERSION)
        if connection.receive().status == 200:
            first.append(connection)
        assert time.monotonic() < deadline
    for _ in range(3):
        extra = m.connect()
        assert extra.receive_all() == TOO_MANY
    for connection in first:
        assert connection.request("GET", "/version").status == 200
    first.pop().close()
    while True:
        again = m.connect()
        try:
            again.send(GET_VERSION)
            if again.receive().status == 200:
                break
        except OSError:  # refused and closed while we wrote
            pass
        assert time.monotonic() < deadline, "no place became free"
        time.sleep(0.01)


def cpu_seconds(pid):
    """What a process has used so far."""
    with open("/proc/%d/stat" % pid, encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def limited(t, descriptors):
    """A monitor that serves, with so many descriptors at most."""
    m = Monitor(test=t, limits={"no-file": descriptors})
    assert m.get("/version")
    return m


@test
def clients_wait_while_descriptors_are_short(t):
    """Without turning the processor meanwhile."""
    spare = 3
    m = limited(t, 512)
    limit = len(os.listdir("/proc/%d/fd" % m.pid)) + spare
    m.close()
    m = limited(t, limit)
    connections = [m.connect() for _ in range(spare + 3)]
    for connection in connections:
        connection.send(request_bytes("GET", "/version"))
    served = 0
    while served < len(connections) and not connections[served].silent(0.2):
        assert connections[served].receive().status == 200
        served += 1
    assert 0 < served < len(connections), served
    before = cpu_seconds(m.pid)
    time.sleep(1)
    used = cpu_seconds(m.pid) - before
    assert used < 0.2, used
    for connection in connections[:served]:
        connection.close()
    for connection in connections[served:]:
        assert connection.receive().status == 200
        connection.close()
    assert m.get("/version")
    assert "No file descriptors available (os error 24)" in m.log


@test
def parallel_clients_are_all_served(t):
    m = Monitor(test=t)
    failures = []

    def work(number):
        connection = m.connect()
        for i in range(50):
            answer = connection.request(
                "PATCH" if i % 2 else "GET", "/machine-config",
                {"mem_size_mib": number + 1} if i % 2 else None)
            if answer.status not in (200, 204):
                failures.append(answer.raw)
        connection.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


@test
def other_methods_are_parse_errors(t):
    m = Monitor(test=t)
    want = parse_error("Invalid HTTP Method: Unsupported HTTP method.")
    for method in ("POST", "OPTIONS", "TRACE", "CONNECT", "get",
                   "PUTS", "G"):
        connection = m.connect()
        connection.send(b"%s /version HTTP/1.1\r\n\r\n" % method.encode())
        answer = connection.receive()
        t.point(answer.status == 400 and answer.body == want, method,
                repr(answer.raw))
        connection.close()
    assert m.get("/version")


@test
def head_is_refused(t):
    """An HTTP library may leave out the body of what answers a HEAD."""
    m = Monitor(test=t)
    connection = m.connect()
    connection.send(b"HEAD /version HTTP/1.1\r\n\r\n")
    data = connection.socket.recv(4096)
    assert data.startswith(b"HTTP/1.1 400 \r\n"), data
    assert m.get("/version")


@test
def connection_stays_open_after_a_parse_error(t):
    connection = Monitor(test=t).connect()
    for _ in range(3):
        assert connection.request("POST", "/version").status == 400
        assert connection.request("GET", "/version").status == 200


@test
def payload_limit_is_exact(t):
    connection = Monitor(test=t).connect()
    answer = connection.request("PUT", "/machine-config", padded(PAYLOAD_MAX))
    assert answer.raw == NO_CONTENT, answer.raw
    answer = connection.request("PUT", "/machine-config",
                                padded(PAYLOAD_MAX + 1))
    assert answer.status == 400, answer.raw
    assert answer.body == parse_error(
        "Request payload with size 51201 is larger than the limit of 51200 "
        "allowed by server."), answer.raw


@test
def payload_limit_can_be_set(t):
    m = Monitor(test=t, args=["--http-api-max-payload-size", "100"])
    connection = m.connect()
    answer = connection.request("PUT", "/machine-config", padded(100))
    assert answer.raw == NO_CONTENT, answer.raw
    answer = connection.request("PUT", "/machine-config", padded(101))
    assert b"size 101 is larger than the limit of 100" in answer.body


@test
def endless_body_is_not_read(t):
    m = Monitor(test=t)
    connection = m.connect()
    connection.send(b"PUT /machine-config HTTP/1.1\r\n"
                    b"Content-Length: 4294967295\r\n\r\n")
    answer = connection.receive()
    assert answer.status == 400, answer.raw
    assert b"larger than the limit" in answer.body, answer.raw
    assert m.get("/version")


@test
def bad_content_length_is_refused(t):
    m = Monitor(test=t)
    for value in ("abc", "-1", "4294967296", "1x"):
        connection = m.connect()
        connection.send(("PUT /machine-config HTTP/1.1\r\n"
                         "Content-Length: %s\r\n\r\n" % value).encode())
        answer = connection.receive()
        t.point(answer.status == 400, value, repr(answer.raw))
        connection.close()
    assert m.get("/version")


@test
def long_lines_are_refused(t):
    m = Monitor(test=t)
    for name, data in (
            ("request line", b"GET /" + b"a" * 2000 + b" HTTP/1.1\r\n\r\n"),
            ("header line", b"GET /version HTTP/1.1\r\nX: " + b"a" * 2000
             + b"\r\n\r\n"),
            ("endless line", b"GET /" + b"a" * 200000)):
        connection = m.connect()
        try:
            connection.send(data)
            answer = connection.receive().raw
        except OSError as error:  # closed while we still wrote
            answer = repr(error).encode()
        t.point(b" 200 " not in answer, name, repr(answer))
        connection.close()
    assert m.get("/version")


@test
def many_headers_are_no_harm(t):
    m = Monitor(test=t)
    connection = m.connect()
    try:
        connection.request("GET", "/version", None,
                           ["X-%d: %s" % (i, "v" * 900) for i in range(500)])
    except (OSError, AssertionError):
        pass  # refused in whatever way
    connection.close()
    assert m.get("/version")


@test
def garbage_is_no_harm(t):
    m = Monitor(test=t)
    for data in (b"\0\xff" * 500, b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"GET /\r\n",
                 b"GET /version HTTP/2.0\r\n\r\n",
                 b"GET /version http/1.1\r\n\r\n",
                 b"GET  /version HTTP/1.1\r\n\r\n",
                 b"GET /version HTTP/1.1\r\nno colon\r\n\r\n",
                 b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
                 b"GET /%00/%2e%2e HTTP/1.1\r\n\r\n",
                 b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"):
        connection = m.connect()
        connection.send(data)
        connection.silent(0.02)
        connection.close()
        t.point(m.alive() and m.get("/version"), repr(data[:24]))


@test
def chunked_request_without_body_is_empty(t):
    m = Monitor(test=t)
    connection = m.connect()
    connection.send(b"PUT /machine-config HTTP/1.1\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
    answer = connection.receive()
    assert answer.status == 400, answer.raw
    assert answer.json == {"fault_message": "Empty PUT request."}, answer.raw
    assert m.get("/version")


@test
def expect_100_gets_an_interim_answer(t):
    connection = Monitor(test=t).connect()
    body = padded(60)
    connection.send(b"PUT /machine-config HTTP/1.1\r\nContent-Length: 60\r\n"
                    b"Expect: 100-continue\r\n\r\n")
    answer = connection.receive()
    assert answer.status_line == b"HTTP/1.1 100 ", answer.raw
    connection.send(body)
    answer = connection.receive()
    assert answer.raw == NO_CONTENT, answer.raw


@test
def target_forms_are_accepted(t):
    m = Monitor(test=t)
    for target, status in (("http://localhost/version", 200),
                           ("/version/x", 200), ("//version", 200),
                           ("/version?x=1", 400), ("*", 400)):
        connection = m.connect()
        connection.send(b"GET %s HTTP/1.1\r\n\r\n" % target.encode())
        answer = connection.receive()
        t.point(answer.status == status, target, repr(answer.raw))
        connection.close()


@test
def bodies_where_they_do_not_belong(t):
    m = Monitor(test=t)
    for method, path, body, text in (
            ("GET", "/version", "{}", "GET request cannot have a body."),
            ("GET", "/", "x", "GET request cannot have a body."),
            ("PUT", "/machine-config", None, "Empty PUT request."),
            ("PUT", "/actions", b"", "Empty PUT request."),
            ("PATCH", "/machine-config", None, "Empty PATCH request."),
            ("PATCH", "/vm", None, "Empty PATCH request.")):
        fault = m.fault(method, path, body)
        t.point(fault == text, "%s %s %s" % (method, path, body), fault)


@test
def refusals_leave_the_connection_usable(t):
    m = Monitor(test=t)
    refused(m, request_bytes("PUT", "/machine-config", "{"),
            b"An error occurred when deserializing")
    refused(m, request_bytes("GET", "/nothing"),
            b"Invalid request method and/or path: GET nothing.")
    refused(m, request_bytes("PUT", "/machine-config",
                             padded(PAYLOAD_MAX + 1)), b"larger than")


if __name__ == "__main__":
    main()
