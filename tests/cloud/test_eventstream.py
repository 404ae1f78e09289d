"""Event streams between codecs that nobody here wrote and ours: theirs into our decoder, ours into theirs."""
import json
import os
import pathlib
import random
import subprocess

import pytest
from botocore.eventstream import EventStreamBuffer

ROOT = pathlib.Path(__file__).resolve().parents[2]
APP = pathlib.Path(os.environ.get("CORDON_APP_DIR", ROOT / ".cordon" / "app"))      # dev/cloud and its npm packages
TOOLS = pathlib.Path(os.environ.get("CORDON_BUILD_DIR", ROOT / ".cordon/build/release")) / "tests/tools"

# Frames by the JavaScript SDK's codec: strings as Bedrock sends them, and a header of every type that there is.
SMITHY = """
import { EventStreamCodec, Int64 } from '@smithy/eventstream-codec';
const codec = new EventStreamCodec((b) => Buffer.from(b).toString(), (s) => Buffer.from(s));
const every = { a: { type: 'boolean', value: true }, b: { type: 'boolean', value: false }, c: { type: 'byte', value: -7 },
  d: { type: 'short', value: 300 }, e: { type: 'integer', value: -70000 }, f: { type: 'long', value: Int64.fromNumber(1e12) },
  g: { type: 'binary', value: Buffer.from([0, 1, 255]) }, h: { type: 'timestamp', value: new Date(1700000000000) },
  i: { type: 'uuid', value: '01920000-0000-7000-8000-000000000001' } };
for (const [type, name, body, more] of JSON.parse(process.argv[1])) {
  const headers = { ':message-type': { type: 'string', value: type }, ...(more ? every : {}),
    [type === 'event' ? ':event-type' : ':exception-type']: { type: 'string', value: name } };
  process.stdout.write(codec.encode({ headers, body: Buffer.from(body, 'hex') }));
}
"""
OURS = """
import { event } from './cloud/bedrock-eventstream.mjs';
for (const [name, body] of JSON.parse(process.argv[1]))
  process.stdout.write(event(name, body));
"""


def node(script, argument):
    return subprocess.run([APP / "node", "--input-type=module", "-e", script, json.dumps(argument)], cwd=APP, stdout=subprocess.PIPE,
                          check=True, timeout=60).stdout


def decode(frames, portion):
    return subprocess.run([TOOLS / "eventstream_print", str(portion)], input=frames, stdout=subprocess.PIPE, text=False, timeout=60)


@pytest.fixture(scope="module")
def messages():
    if not (APP / "node_modules/@smithy/eventstream-codec").exists():
        pytest.skip("its npm package is not installed: ./cordon setup")
    chance = random.Random(7)
    return [(chance.choice(["event", "event", "exception"]), chance.choice(["contentBlockDelta", "metadata", "x"]),
             chance.randbytes(chance.choice([0, 1, 40, 3000])).hex(), chance.random() < 0.5) for _ in range(60)]


def test_frames_of_the_javascript_sdk_are_read_by_ours_whatever_their_portions(messages):
    frames = node(SMITHY, messages)
    wanted = "".join(f"{kind} {name} {body}\n" for kind, name, body, _ in messages).encode()
    for portion in (1, 7, 64, 4096):
        done = decode(frames, portion)
        assert (done.returncode, done.stdout) == (0, wanted)


def test_a_bit_that_turned_on_the_way_is_noticed(messages):
    frames = bytearray(node(SMITHY, [next(m for m in messages if len(m[2]) == 80)]))
    for at in range(len(frames)):
        frames[at] ^= 1
        assert decode(bytes(frames), 4096).returncode != 0, at
        frames[at] ^= 1
    assert decode(bytes(frames[:-1]), 4096).returncode == 3


# Ours again, cut at their lengths and given to the same codec.
BY_SMITHY = """
import { EventStreamCodec } from '@smithy/eventstream-codec';
import { event } from './cloud/bedrock-eventstream.mjs';
const codec = new EventStreamCodec((b) => Buffer.from(b).toString(), (s) => Buffer.from(s));
const sent = Buffer.concat(JSON.parse(process.argv[1]).map(([name, body]) => event(name, body))), heard = [];
for (let at = 0; at < sent.length; at += sent.readUInt32BE(at)) {
  const { headers, body } = codec.decode(sent.subarray(at, at + sent.readUInt32BE(at)));
  heard.push([headers[':event-type'].value, JSON.parse(Buffer.from(body).toString())]);
}
process.stdout.write(JSON.stringify(heard));
"""


def test_our_frames_are_read_by_the_javascript_sdk(messages):
    said = [["messageStart", {"role": "assistant"}], ["contentBlockDelta", {"delta": {"text": "Zwölf mg [1]. ✓" * 500}}], ["metadata", {"usage": {}}]]
    assert json.loads(node(BY_SMITHY, said)) == said


def test_our_frames_are_read_by_botocore():
    said = [("messageStart", {"role": "assistant"}), ("contentBlockDelta", {"delta": {"text": "Zwölf mg [1]. ✓"}}), ("metadata", {"usage": {}})]
    buffer = EventStreamBuffer()
    buffer.add_data(node(OURS, said))
    heard = [(m.headers[":event-type"], json.loads(m.payload)) for m in buffer]
    assert heard == said
