"""What a handler learns of its call, in each runtime, through the real server: cold and in clones (Java's and .NET's are in
their own files)."""

import base64
import json
import time

import pytest

import harness

SOURCES = {
    "python": ("app.py", """
def handler(event, c):
    cc = c.client_context
    return {"id": c.aws_request_id, "arn": c.invoked_function_arn, "name": c.function_name, "version": c.function_version,
            "memory": c.memory_limit_in_mb, "left": c.get_remaining_time_in_millis(), "group": c.log_group_name,
            "stream": c.log_stream_name, "custom": cc and cc.custom, "client": cc and cc.client.app_title,
            "identity": c.identity and c.identity.cognito_identity_id}
"""),
    "nodejs": ("app.mjs", """
export const handler = async (event, c) => ({
  id: c.awsRequestId, arn: c.invokedFunctionArn, name: c.functionName, version: c.functionVersion,
  memory: c.memoryLimitInMB, left: c.getRemainingTimeInMillis(), group: c.logGroupName ?? null,
  stream: c.logStreamName ?? null, custom: c.clientContext?.custom ?? null, client: c.clientContext?.client?.app_title ?? null,
  identity: c.identity ?? null,
});
"""),
    "ruby": ("app.rb", """
def handler(event:, context:)
  c = context
  { id: c.aws_request_id, arn: c.invoked_function_arn, name: c.function_name, version: c.function_version,
    memory: c.memory_limit_in_mb, left: c.get_remaining_time_in_millis, group: c.log_group_name, stream: c.log_stream_name,
    custom: c.client_context&.fetch('custom'), client: c.client_context&.dig('client', 'app_title'), identity: c.identity }
end
"""),
}


@pytest.fixture
def function(request, make_function, server):
    offered = [r["runtime"] for r in server.get("/thaw/v1/runtimes")["runtimes"] if r["offered"]]
    runtime = harness.PYTHON if request.param == "python" else next(r for r in offered if r.startswith(request.param))
    return make_function(files=dict([SOURCES[request.param]]), runtime=runtime, snap_start=True, Timeout=9, MemorySize=300)


@pytest.mark.parametrize("function", SOURCES, indirect=True)
def test_context(function):
    client_context = {"custom": {"a": "ä"}, "client": {"app_title": "shop"}, "env": {}}
    encoded = base64.b64encode(json.dumps(client_context).encode()).decode()
    version = function.publish()
    base = f"arn:aws:lambda:us-east-1:000000000000:function:{function.name}"
    for qualifier in [None, version]:
        before = time.time()
        answer = function.raw({}, qualifier, ClientContext=encoded)
        seen = json.loads(answer["Payload"])
        assert seen["id"] == answer["ResponseMetadata"]["RequestId"]
        assert seen["arn"] == (f"{base}:{qualifier}" if qualifier else base)
        assert (seen["name"], seen["version"], seen["memory"]) == (function.name, qualifier or "$LATEST", "300")
        assert 0 < seen["left"] <= 9000 and seen["left"] > 9000 - (time.time() - before) * 1000 - 1
        assert (seen["custom"], seen["client"], seen["identity"]) == ({"a": "ä"}, "shop", None)
        if qualifier is None:  # a clone has no names of the environment that was frozen
            assert seen["group"] == f"/aws/lambda/{function.name}" and "[$LATEST]" in seen["stream"]
        plain = function.call({}, qualifier)
        assert plain["custom"] is None and plain["client"] is None and plain["id"] != seen["id"]
