// bedrock-eventstream: frames of application/vnd.amazon.eventstream, all numbers big endian:
// total u32, headers length u32, CRC-32 of those eight bytes, headers, payload, CRC-32 of all before.
// A header is: u8 name length, name, u8 type (7: string), u16 value length, value.
import { crc32 } from 'node:zlib';

function header(name, value) {
  const bytes = Buffer.from(value);
  const out = Buffer.alloc(1 + name.length + 3 + bytes.length);
  out.writeUInt8(name.length, 0);
  out.write(name, 1, 'latin1');
  out.writeUInt8(7, 1 + name.length);
  out.writeUInt16BE(bytes.length, 2 + name.length);
  bytes.copy(out, 4 + name.length);
  return out;
}

export function frame(headers, payload) {
  const head = Buffer.concat(Object.entries(headers).map(([name, value]) => header(name, value)));
  const out = Buffer.alloc(12 + head.length + payload.length + 4);
  out.writeUInt32BE(out.length, 0);
  out.writeUInt32BE(head.length, 4);
  out.writeUInt32BE(crc32(out.subarray(0, 8)), 8);
  head.copy(out, 12);
  payload.copy(out, 12 + head.length);
  out.writeUInt32BE(crc32(out.subarray(0, out.length - 4)), out.length - 4);
  return out;
}

export function event(type, body) {
  return frame({ ':event-type': type, ':content-type': 'application/json', ':message-type': 'event' }, Buffer.from(JSON.stringify(body)));
}

export function exception(type, body) {
  return frame({ ':exception-type': type, ':content-type': 'application/json', ':message-type': 'exception' }, Buffer.from(JSON.stringify(body)));
}
