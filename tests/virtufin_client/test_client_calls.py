"""Services through the gateway, and per-service state."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import socket

import grpc
import pytest
from fake_gateway import FakeGateway, serving

from virtufin.api.client import ApiClient, GatewayClient, GatewayError, PubsubClient, Response


def client_of(fake: FakeGateway, **options: object) -> ApiClient:
    return ApiClient("127.0.0.1", fake.port, **options)  # type: ignore[arg-type]


def test_defaults_are_the_documented_ones() -> None:
    parameters = inspect.signature(ApiClient).parameters
    assert (parameters["host"].default, parameters["grpc_port"].default) == ("localhost", 5002)
    client = ApiClient()
    assert repr(client) == "ApiClient(host='localhost', grpc_port=5002)"
    assert (client.host, client.grpc_port) == ("localhost", 5002)
    assert isinstance(client.gateway, GatewayClient)
    assert isinstance(client.pubsub, PubsubClient)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_is_none_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match=f"{port}"):
        ApiClient(grpc_port=port)


async def test_services_and_methods_are_listed() -> None:
    async with serving() as fake, client_of(fake) as client:
        assert await client.list_services_async() == ["workmanager", "echo"]
        methods = await client.list_methods_async("workmanager")
        assert [method["name"] for method in methods] == ["ListWorkers", "CreateWorker", "StartWorker", "Count"]
        assert methods[0]["full_name"] == methods[0]["fullName"] == "test.workmanager.ListWorkers"
        assert methods[0]["isServerStreaming"] is False
        schema = await client.gateway.get_method_schema_async("echo", "Echo", "output")
        assert (schema["schema_type"], schema["fields"][0]["typeName"]) == ("output", "")
        with pytest.raises(grpc.RpcError) as caught:
            await client.list_methods_async("nobody")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_any_method_of_any_service_is_called_by_name() -> None:
    async with serving() as fake, client_of(fake) as client:
        worker = (await client.gateway.workmanager.ListWorkers())["workers"][0]
        assert worker["mime_type"] == worker["mimeType"] == "text/x-python"
        assert worker["code_source"]["url"] == "u"
        assert await client.gateway["echo"]["Echo"]({"a": 1}) == {"a": 1}
        assert await client.invoke_async("echo", "Echo", {"b": [{"c_d": 2}]}) == {"b": [{"c_d": 2}]}
        assert await client.invoke_json_async("echo", "Echo", {}) == {}
        assert await client.invoke_raw_async("echo", "Echo", b"abc") == b"cba"
        assert client.gateway.workmanager is client.gateway.workmanager
        # Protobuf JSON has bytes as base64.
        assert await client.gateway.echo.Echo({"content": b"\xff\x00"}) == {"content": "/wA="}


async def test_a_streaming_method_yields_its_responses() -> None:
    async with serving() as fake, client_of(fake) as client:
        items = [item["item_number"] async for item in client.gateway.workmanager.Count.stream({"count": 3})]
        assert items == [0, 1, 2]
        failing = client.gateway.echo.Fail.stream({"count": 1})
        assert await anext(failing) == {"itemNumber": 0}
        with pytest.raises(GatewayError, match="INTERNAL: broke"):
            await anext(failing)


async def test_a_failure_in_band_is_a_value_error_with_its_status() -> None:
    async with serving() as fake, client_of(fake) as client:
        with pytest.raises(ValueError, match=r"echo\.Fail: ALREADY_EXISTS: it is there") as caught:
            await client.gateway.echo.Fail({})
        assert isinstance(caught.value, GatewayError)
        assert (caught.value.status, caught.value.message) == ("ALREADY_EXISTS", "it is there")
        assert [detail["retry_delay"] for detail in caught.value.details] == ["1s"]
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.status) == (str(caught.value), "ALREADY_EXISTS")
        with pytest.raises(GatewayError, match="UNAVAILABLE: down"):
            await client.invoke_raw_async("echo", "Fail", b"")


@pytest.mark.parametrize(
    ("service", "method", "suggested"),
    [
        ("workmanger", "ListWorkers", ("workmanager",)),
        ("WorkManager", "ListWorkers", ("workmanager",)),
        ("workmanager", "listworkers", ("ListWorkers",)),
        ("workmanager", "CreateWorkers", ("CreateWorker",)),
        ("nothing_like_it", "Echo", ()),
    ],
)
async def test_a_near_miss_is_told_what_exists(service: str, method: str, suggested: tuple[str, ...]) -> None:
    async with serving() as fake, client_of(fake) as client:
        with pytest.raises(GatewayError) as caught:
            await client.invoke_async(service, method, {})
        assert caught.value.status == "NOT_FOUND"
        assert caught.value.suggestions[:1] == suggested
        assert all(repr(name) in str(caught.value) for name in suggested)


async def test_dir_shows_what_was_listed() -> None:
    async with serving() as fake, client_of(fake) as client:
        assert "workmanager" not in dir(client.gateway)
        assert await client.wait_ready(10) == ["workmanager", "echo"]
        assert {"workmanager", "echo", "invoke_async"} <= set(dir(client.gateway))
        await client.list_methods_async("echo")
        assert {"Echo", "Fail"} <= set(dir(client.gateway.echo))
        for private in ("__deepcopy__", "_repr_html_", "_x"):
            assert not hasattr(client.gateway, private)
            assert not hasattr(client.gateway.echo, private)
        assert "workmanager" in repr(client.gateway.workmanager)
        assert repr(client.gateway.echo.Echo) == "<ServiceMethod echo.Echo>"


async def test_a_request_that_is_no_message_is_refused_here() -> None:
    async with serving() as fake, client_of(fake) as client:
        with pytest.raises(TypeError, match="invoke_raw_async"):
            await client.invoke_async("echo", "Echo", b"bytes")
        with pytest.raises(TypeError, match="not list"):
            await client.invoke_async("echo", "Echo", [1])
        with pytest.raises(TypeError, match="object has no JSON form"):
            await client.invoke_async("echo", "Echo", {"a": object()})
        assert "InvokeJson" not in fake.seen


async def test_key_metadata_and_deadline_go_along() -> None:
    async with serving() as fake, client_of(fake, api_key="s3cret", metadata={"tenant": "t1"}, timeout=7) as client:
        await client.gateway.echo.Echo({}, metadata={"traceparent": "00-1-2-3"})
        await client.gateway.echo.Echo({}, timeout=3)
        await client.gateway.echo.Echo({}, timeout=None)
        first, second, third = fake.seen["InvokeJson"]
        assert {"x-api-key": "s3cret", "tenant": "t1", "traceparent": "00-1-2-3"}.items() <= first[0].items()
        assert first[1] is not None
        assert 3 < first[1] <= 7.1
        assert second[1] is not None
        assert second[1] <= 3.1
        assert third[1] is None or third[1] > 1e6
        await client.list_services_async()
        assert fake.seen["ListServices"][0][0]["x-api-key"] == "s3cret"
        assert "s3cret" not in repr(client) + repr(vars(client)) + repr(client._connections.settings)


async def test_an_unreachable_gateway_raises_an_rpc_error() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with ApiClient("127.0.0.1", nobody.getsockname()[1]) as client:
            with pytest.raises(grpc.RpcError) as caught:
                await client.list_services_async()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            with pytest.raises(grpc.RpcError):
                await client.subscribe_async_with_handler(print)
            with pytest.raises(TimeoutError, match=r"is not ready after 0\.3 s: .*"):
                await client.wait_ready(0.3)


async def test_waiting_for_a_gateway_that_is_about_to_start() -> None:
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        async with ApiClient("127.0.0.1", port) as client:
            with pytest.raises(TimeoutError):
                await client.wait_ready(0.05)
            async with serving(port=port):
                assert "echo" in await client.wait_ready(30, services=["echo"])
                with pytest.raises(TimeoutError, match="nobody not registered"):
                    await client.wait_ready(1.5, services=["echo", "nobody"])


async def test_state_is_saved_compared_and_deleted() -> None:
    async with serving() as fake, client_of(fake) as client:
        saved = await client.save_state_async("s", "k", "v1")
        assert saved == {"success": True, "status": "OK", "message": "s/k", "etag": saved["etag"]}
        got = await client.get_state_async("s", "k")
        assert got == {"key": "k", "value": "v1", "etag": saved["etag"]}
        again = await client.save_state_async("s", "k", "v2", saved["etag"])
        assert again["etag"] != saved["etag"]
        with pytest.raises(grpc.RpcError) as caught:
            await client.save_state_async("s", "k", "v3", etag=saved["etag"])
        assert caught.value.code() is grpc.StatusCode.ABORTED
        with pytest.raises(grpc.RpcError):
            await client.save_state_async("s", "k", "v3", create_only=True)
        assert await client.get_state_async("s", "none") == {"key": "none", "value": "", "etag": ""}
        await client.save_state_async("s", "object", {"some_key": [1, "é"]})
        await client.save_state_async("s", "bytes", "é".encode())
        values = (await client.get_all_state_async("s"))["values"]
        assert values == {"k": "v2", "object": '{"some_key": [1, "é"]}', "bytes": "é"}
        assert await client.list_keys_async("s") == ["bytes", "k", "object"]
        assert await client.list_keys_async("s", "b") == ["bytes"]
        assert (await client.register_keys_async("s", ["a", "b"]))["message"] == "a,b"
        with pytest.raises(grpc.RpcError):
            await client.delete_state_async("s", "k", etag=saved["etag"])
        assert (await client.delete_state_async("s", "k", etag=again["etag"]))["success"]
        assert (await client.delete_state_async("s", "k"))["status"] == "NOT_FOUND"


async def test_values_that_would_be_changed_are_refused() -> None:
    async with serving() as fake, client_of(fake) as client:
        with pytest.raises(ValueError, match="not UTF-8"):
            await client.save_state_async("s", "k", b"\xff")
        with pytest.raises(TypeError, match=r"write \['key'\]"):
            await client.register_keys_async("s", "key")
        assert not fake.state


async def test_a_bare_channel_makes_parts_of_the_client() -> None:
    async with serving() as fake, grpc.aio.insecure_channel(f"127.0.0.1:{fake.port}") as channel:
        assert await GatewayClient(channel, async_mode=True).echo.Echo({"x": 1}) == {"x": 1}
        assert (await PubsubClient(channel).publish_async("t", "d"))["success"]
        with pytest.raises(ValueError, match="asynchronous only"):
            GatewayClient(channel, async_mode=False)


def test_responses_answer_to_both_spellings() -> None:
    response = Response({"mimeType": 1, "http2_url": 2, "a": {"b": 1}})
    assert response["mime_type"] == response["mimeType"] == response.get("mime_type") == 1
    assert response.get("http2Url") == 2
    assert "mime_type" in response
    assert "other_type" not in response
    assert response.get("other_type", "no") == "no"
    with pytest.raises(KeyError, match="other_type"):
        response["other_type"]
    response["mime_type"] = 3
    assert list(response) == ["mimeType", "http2_url", "a"]
    assert response.setdefault("mime_type", 4) == response.pop("mime_type") == 3
    assert response.pop("mime_type", None) is None
    del response["http2Url"]
    assert response == {"a": {"b": 1}} == json.loads(json.dumps(response))
    for twin in (copy.copy(response), copy.deepcopy(response), pickle.loads(pickle.dumps(response)), response.copy()):
        assert type(twin) is Response
        assert twin == response
    assert Response({"my_key": 1, "myKey": 2})["my_key"] == 1
