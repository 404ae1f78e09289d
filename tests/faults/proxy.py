#!/usr/bin/python3
"""A TCP proxy that breaks on purpose, for tests: one port for each link, what is broken can change while bytes flow.

    proxy.py CONTROL-PORT NAME=PORT:TARGET-PORT ...        all on 127.0.0.1; port 0: any free one

The control port takes one JSON object a line and answers with one. {"link": "postgres"} and one of

    "set": {"up": RULES, "down": RULES, "refuse": true}    up: from the client; what is not named stays as it is
    "clear": true                                          all rules of the link, and what was held flows on
    "end": "reset" | "close"                               every connection there is now

RULES: delay_ms (each portion), bytes_per_s, hold (a black hole: nothing arrives, nothing is lost, as TCP sends again),
cut_at (after so many bytes, counted for each connection from the moment it is set or begins) with cut_how ("reset",
"close", "half": only this direction ends, "hold") and cut_times (so many connections; without it all).
refuse: nobody listens. Without a command the answer tells the ports, the open connections and the bytes that passed.

`Proxy` starts it as a child and is its client.
"""
import asyncio
import json
import pathlib
import socket
import struct
import subprocess
import sys

PORTION = 65536
RULES = {"delay_ms": 0, "bytes_per_s": 0, "hold": False, "cut_at": None, "cut_how": "reset", "cut_times": None}


class Link:
    def __init__(self, name, port, target):
        self.name, self.port, self.target = name, port, target
        self.rules = {"up": dict(RULES), "down": dict(RULES)}
        self.refuse, self.server, self.changed = False, None, asyncio.Event()
        self.connections, self.bytes, self.accepted, self.epoch = set(), {"up": 0, "down": 0}, 0, {"up": 0, "down": 0}

    async def listen(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port)
        self.port = self.server.sockets[0].getsockname()[1]

    async def apply(self, change):
        for direction in ("up", "down"):
            rules = change.get(direction)
            if rules is None:
                continue
            unknown = set(rules) - set(RULES)
            if unknown:
                raise ValueError(f"no such rule: {sorted(unknown)}")
            self.rules[direction].update(rules)
            self.epoch[direction] += "cut_at" in rules
        await self.set_refuse(change.get("refuse", self.refuse))
        self.wake()

    async def set_refuse(self, refuse):
        if refuse and not self.refuse:
            self.server.close()
        elif self.refuse and not refuse:
            await self.listen()
        self.refuse = refuse

    async def clear(self):
        self.rules = {"up": dict(RULES), "down": dict(RULES)}
        await self.set_refuse(False)
        self.wake()

    def wake(self):
        self.changed.set()
        self.changed = asyncio.Event()

    def end(self, how):
        for connection in list(self.connections):
            connection.end(how)

    async def serve(self, reader, writer):
        self.accepted += 1
        connection = Connection(self, reader, writer)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def state(self):
        return {"port": self.port, "open": len(self.connections), "accepted": self.accepted, "bytes": self.bytes,
                "rules": self.rules, "refuse": self.refuse}


class Connection:
    def __init__(self, link, reader, writer):
        self.link, self.reader, self.writer, self.far = link, reader, writer, None
        self.tasks = []

    async def run(self):
        try:
            far_reader, self.far = await asyncio.open_connection("127.0.0.1", self.link.target)
        except OSError:         # as if nobody listened: the client is reset
            return self.end("reset")
        self.tasks = [asyncio.ensure_future(self.pump("up", self.reader, self.far)),
                      asyncio.ensure_future(self.pump("down", far_reader, self.writer))]
        try:
            await asyncio.gather(*self.tasks)
        except (OSError, asyncio.CancelledError):
            pass
        for task in self.tasks:
            task.cancel()
        self.end("close")

    def end(self, how):
        for writer in (self.writer, self.far):
            if writer is None or writer.transport.is_closing():
                continue
            if how == "reset":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
            else:
                writer.close()
        for task in self.tasks:
            task.cancel()

    async def pump(self, direction, reader, writer):
        link, passed, epoch = self.link, 0, self.link.epoch[direction]
        while data := await reader.read(PORTION):
            while data:
                rules = link.rules[direction]
                if epoch != link.epoch[direction]:
                    epoch, passed = link.epoch[direction], 0
                if rules["hold"]:
                    await link.changed.wait()
                    continue
                n = len(data)
                if rules["delay_ms"]:
                    await asyncio.sleep(rules["delay_ms"] / 1000)
                if rules["bytes_per_s"]:
                    n = min(n, max(1, rules["bytes_per_s"] // 20))
                    await asyncio.sleep(n / rules["bytes_per_s"])
                rules = link.rules[direction]           # they may have changed meanwhile
                if rules["hold"] or epoch != link.epoch[direction]:
                    continue
                is_cut = rules["cut_at"] is not None and passed + n >= rules["cut_at"]
                if is_cut:
                    n = max(0, rules["cut_at"] - passed)
                if n:
                    writer.write(data[:n])
                    await writer.drain()
                data, passed, link.bytes[direction] = data[n:], passed + n, link.bytes[direction] + n
                if is_cut and await self.cut(direction, rules, writer):
                    return
        if writer.can_write_eof() and not writer.is_closing():
            writer.write_eof()

    async def cut(self, direction, rules, writer):
        """True when this direction has ended."""
        how = rules["cut_how"]
        if rules["cut_times"] is not None:
            rules["cut_times"] -= 1
            if rules["cut_times"] <= 0:
                rules["cut_at"] = None
                self.link.epoch[direction] += 1
        if how == "hold":
            await asyncio.Event().wait()                # this connection is dead until somebody ends it
        if how == "half":
            writer.write_eof()
            return True
        await asyncio.sleep(0)
        self.end(how)
        return True


async def control(links, reader, writer):
    while line := await reader.readline():
        try:
            command = json.loads(line)
            link = links.get(command.get("link"))
            if "link" in command and link is None:
                raise ValueError(f"no link {command['link']!r}")
            if "set" in command:
                await link.apply(command["set"])
            if command.get("clear"):
                for one in [link] if link else links.values():
                    await one.clear()
            if "end" in command:
                link.end(command["end"])
            answer = {name: one.state() for name, one in links.items()}
        except (ValueError, AttributeError, OSError) as error:
            answer = {"error": str(error)}
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
    writer.close()


async def serve(control_port, given):
    links = {}
    for text in given:
        name, _, ports = text.partition("=")
        port, _, target = ports.partition(":")
        links[name] = Link(name, int(port), int(target))
        await links[name].listen()
    server = await asyncio.start_server(lambda r, w: control(links, r, w), "127.0.0.1", control_port)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Proxy:
    """links: name -> (port or 0, target port)."""

    def __init__(self, links):
        command = [sys.executable, str(pathlib.Path(__file__).resolve()), "0"]
        command += [f"{name}={port}:{target}" for name, (port, target) in links.items()]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        port = int(self.process.stdout.readline())
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.answers = self.socket.makefile("r")

    def command(self, **command):
        self.socket.sendall(json.dumps(command).encode() + b"\n")
        answer = json.loads(self.answers.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        return answer

    def set(self, link, **change):
        return self.command(link=link, set=change)

    def clear(self, link=None):
        return self.command(clear=True, **({"link": link} if link else {}))

    def end(self, link, how="reset"):
        return self.command(link=link, end=how)

    def state(self, link):
        return self.command()[link]

    def port(self, link):
        return self.state(link)["port"]

    def stop(self):
        self.socket.close()
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    try:
        asyncio.run(serve(int(sys.argv[1]), sys.argv[2:]))
    except KeyboardInterrupt:
        pass
