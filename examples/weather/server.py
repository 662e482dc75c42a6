"""The weather station's server: what a user writes for ``grpc.aio``, to the letter."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import grpc
import weather_pb2
import weather_pb2_grpc

CLIMATE = {"Bergen": 8.0, "Lisbon": 18.0, "Reykjavik": 4.0}


def reading(place: str, hour: int) -> weather_pb2.Reading:
    """What a model of the weather would say."""
    return weather_pb2.Reading(
        place=place,
        hour=hour,
        celsius=CLIMATE[place] + 5 * math.sin((hour - 9) / 24 * math.tau),
        wind_kmh=20 + 60 * abs(math.sin(hour + len(place))),
    )


class WeatherStation(weather_pb2_grpc.WeatherStationServicer):
    async def Current(
        self, request: weather_pb2.Place, context: grpc.aio.ServicerContext[weather_pb2.Place, weather_pb2.Reading]
    ) -> weather_pb2.Reading:
        if request.name not in CLIMATE:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no station in {request.name}")
        context.set_trailing_metadata((("station", request.name.lower()),))
        return reading(request.name, hour=12)

    async def Forecast(
        self,
        request: weather_pb2.ForecastRequest,
        context: grpc.aio.ServicerContext[weather_pb2.ForecastRequest, weather_pb2.Reading],
    ) -> AsyncIterator[weather_pb2.Reading]:
        for hour in range(request.hours):
            await asyncio.sleep(0.01)  # the model computes
            yield reading(request.place.name, hour)

    async def Report(
        self,
        request_iterator: AsyncIterator[weather_pb2.Reading],
        context: grpc.aio.ServicerContext[weather_pb2.Reading, weather_pb2.Summary],
    ) -> weather_pb2.Summary:
        temperatures = [reading.celsius async for reading in request_iterator]
        return weather_pb2.Summary(
            readings=len(temperatures),
            lowest_celsius=min(temperatures),
            highest_celsius=max(temperatures),
        )

    async def Warnings(
        self,
        request_iterator: AsyncIterator[weather_pb2.Watch],
        context: grpc.aio.ServicerContext[weather_pb2.Watch, weather_pb2.Warning],
    ) -> AsyncIterator[weather_pb2.Warning]:
        async for watch in request_iterator:
            for hour in range(24):
                wind = reading(watch.place.name, hour).wind_kmh
                if wind >= watch.wind_kmh:
                    yield weather_pb2.Warning(place=watch.place.name, text=f"{wind:.0f} km/h at {hour:02}:00")


async def serve(address: str) -> tuple[grpc.aio.Server, int]:
    """Starts the server; returns it and its port."""
    server = grpc.aio.server()
    weather_pb2_grpc.add_WeatherStationServicer_to_server(WeatherStation(), server)
    port = server.add_insecure_port(address)
    await server.start()
    return server, port


async def main() -> None:
    server, port = await serve("127.0.0.1:0")
    print(port, flush=True)
    await server.wait_for_termination()
