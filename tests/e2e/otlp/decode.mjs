// Reads ExportTraceServiceRequests, one a line in base64, and prints each span as one line of JSON.
// usage: decode.mjs FOLDER-WITH-NODE_MODULES <requests >spans
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import path from 'node:path';

const folder = path.resolve(process.argv[2], 'node_modules/@opentelemetry/otlp-transformer');
const { opentelemetry } = createRequire(import.meta.url)(path.join(folder, 'build/src/generated/root.js'));
const { ExportTraceServiceRequest } = opentelemetry.proto.collector.trace.v1;

const value = (v) => v.stringValue ?? (v.intValue !== undefined && v.intValue !== null ? Number(v.intValue) : undefined);
const members = (attributes) => Object.fromEntries(attributes.map((a) => [a.key, value(a.value)]));
const hex = (bytes) => Buffer.from(bytes ?? []).toString('hex');

for await (const line of createInterface({ input: process.stdin })) {
  const bytes = Buffer.from(line, 'base64');
  const request = ExportTraceServiceRequest.decode(bytes);
  const fault = ExportTraceServiceRequest.verify(request);
  if (fault) throw new Error(fault);
  if (ExportTraceServiceRequest.encode(request).finish().length !== bytes.length)
    throw new Error('the request holds fields that OpenTelemetry does not know');
  for (const { resource, scopeSpans } of request.resourceSpans)
    for (const { scope, spans } of scopeSpans)
      for (const s of spans)
        console.log(JSON.stringify({
          service: members(resource.attributes)['service.name'], resource: members(resource.attributes), scope: scope.name,
          trace: hex(s.traceId), id: hex(s.spanId), parent: hex(s.parentSpanId), name: s.name, kind: s.kind,
          start: Number(s.startTimeUnixNano), end: Number(s.endTimeUnixNano), status: s.status?.code ?? 0, flags: s.flags,
          attributes: members(s.attributes),
        }));
}
