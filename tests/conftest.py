import itertools
import os

import pytest

import harness


def pytest_configure(config):
    if os.geteuid() != 0:
        raise pytest.UsageError("these tests start thawd, which needs root: sudo ./run test")
    if not harness.THAWD.exists():
        raise pytest.UsageError(f"{harness.THAWD} is not there: ./run build")
    harness.become_subreaper()


@pytest.fixture(scope="session")
def server():
    """One thawd for all tests that leave it as they found it."""
    daemon = harness.make_daemon()
    daemon.start()
    yield daemon
    harness.end_daemon(daemon)


@pytest.fixture
def new_daemon():
    """Makes daemons (not yet started) for this test alone."""
    made = []

    def make(**options):
        made.append(harness.make_daemon(**options))
        return made[-1]

    yield make
    for daemon in reversed(made):
        harness.end_daemon(daemon)


@pytest.fixture
def daemon(new_daemon):
    """A started thawd for this test alone."""
    return new_daemon().start()


@pytest.fixture(scope="session")
def client(server):
    return server.client()


names = itertools.count(1)


@pytest.fixture
def make_function(request):
    """make_function(source, ...) creates a Python function with a name of its own; deleted afterwards. In place of the
    source: files, {name: content}, or package, a zip."""
    made = []

    def make(source=None, *, files=None, package=None, on=None, runtime=harness.PYTHON, handler="app.handler", snap_start=False,
             name=None, **more):
        daemon = on or request.getfixturevalue("server")
        client = daemon.client()
        name = name or f"f{next(names)}-{request.node.name[:40].split('[')[0].replace('_', '-')}"
        if snap_start:
            more["SnapStart"] = {"ApplyOn": "PublishedVersions"}
        if "Environment" in more:
            more["Environment"] = {"Variables": more["Environment"]}
        client.create_function(FunctionName=name, Runtime=runtime, Handler=handler, Role=harness.ROLE,
                               Code={"ZipFile": package or harness.make_zip(files or {"app.py": source})}, **more)
        function = harness.Function(daemon, client, name)
        made.append(function)
        client.get_waiter("function_active_v2").wait(FunctionName=name)
        return function

    yield make
    for function in made:
        if function.daemon.process is not None:
            try:
                function.client.delete_function(FunctionName=function.name)
            except function.client.exceptions.ResourceNotFoundException:
                pass


def pytest_runtest_makereport(item, call):
    """A failed test shows what the daemon said."""
    if call.excinfo is not None and call.when == "call":
        for daemon in harness.RUNNING:
            if daemon.log_path.exists():
                item.add_report_section("call", "thawd", daemon.log()[-3000:])


@pytest.fixture(scope="session")
def s3_server():
    import s3
    server = s3.Server()
    yield server
    server.stop()


@pytest.fixture
def s3_proxy(s3_server):
    """A proxy before the S3 server, without faults yet."""
    import s3
    proxy = s3.Proxy(s3_server)
    yield proxy
    proxy.stop()
