"""The weather station's client: what a user writes for ``grpc.aio``, to the letter."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import weather_pb2
import weather_pb2_grpc


async def current(stub: weather_pb2_grpc.WeatherStationAsyncStub) -> None:
    print("Current: one request, one response")
    call = stub.Current(weather_pb2.Place(name="Bergen"), timeout=5)
    now = await call
    trailing = await call.trailing_metadata()
    print(f"  {now.place}: {now.celsius:.1f} degrees, wind {now.wind_kmh:.0f} km/h (station {trailing['station']!r})")
    try:
        await stub.Current(weather_pb2.Place(name="Atlantis"), timeout=5)
    except grpc.aio.AioRpcError as error:
        print(f"  Atlantis: {error.code().name}, {error.details()}")


async def forecast(stub: weather_pb2_grpc.WeatherStationAsyncStub) -> list[weather_pb2.Reading]:
    print("Forecast: one request, a stream of responses")
    request = weather_pb2.ForecastRequest(place=weather_pb2.Place(name="Lisbon"), hours=12)
    readings = []
    async for reading in stub.Forecast(request):
        readings.append(reading)
        print(f"  {reading.hour:02}:00  {reading.celsius:5.1f} degrees  {'#' * round(reading.celsius)}")
    return readings


async def report(stub: weather_pb2_grpc.WeatherStationAsyncStub, readings: list[weather_pb2.Reading]) -> None:
    print("Report: a stream of requests, one response")

    async def sent() -> AsyncIterator[weather_pb2.Reading]:
        for reading in readings:
            yield reading

    summary = await stub.Report(sent())
    print(f"  {summary.readings} readings, from {summary.lowest_celsius:.1f} to {summary.highest_celsius:.1f} degrees")


async def warnings(stub: weather_pb2_grpc.WeatherStationAsyncStub) -> None:
    print("Warnings: streams both ways")
    call = stub.Warnings()
    for place in ("Bergen", "Reykjavik"):
        await call.write(weather_pb2.Watch(place=weather_pb2.Place(name=place), wind_kmh=79))
        print(f"  watching {place}")
    await call.done_writing()
    while (warning := await call.read()) is not grpc.aio.EOF:
        print(f"  {warning.place}: {warning.text}")
    print(f"  ended with {(await call.code()).name}")


async def main(port: int) -> None:
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        stub = weather_pb2_grpc.WeatherStationStub(channel)
        await current(stub)
        readings = await forecast(stub)
        await report(stub, readings)
        await warnings(stub)
