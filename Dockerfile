# One image for each process, with its own binary and the libraries that binary needs, nothing else:
#   docker build --target edge -t cordon-edge .        (or auth, ingest-worker, embedding-worker, query, audit-writer, migrate)
# and `--target dev`, a whole development stack in one container, which compose.yaml runs.

FROM debian:12-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake ninja-build pkg-config \
        libzmq3-dev libczmq-dev libprotobuf-c-dev protobuf-c-compiler protobuf-compiler libpq-dev libcurl4-openssl-dev \
        libssl-dev libjansson-dev libcivetweb-dev libmicrohttpd-dev libseccomp-dev zlib1g-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY CMakeLists.txt ./
COPY proto proto
COPY common common
COPY services services
RUN cmake -S . -B /build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCORDON_TESTS=OFF && ninja -C /build && \
    mkdir /out && find /build/services -maxdepth 2 -type f -name 'cordon-*' -exec install -s -m 0755 {} /out/ \;

FROM debian:12-slim AS runtime
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libzmq5 libprotobuf-c1 libpq5 libcurl4 \
        libssl3 libjansson4 libcivetweb1 libmicrohttpd12 libseccomp2 zlib1g && rm -rf /var/lib/apt/lists/* && \
    useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cordon
USER cordon
WORKDIR /

FROM runtime AS edge
COPY --from=build /out/cordon-edge /usr/local/bin/
EXPOSE 8080
ENTRYPOINT ["cordon-edge"]

FROM runtime AS auth
COPY --from=build /out/cordon-auth /usr/local/bin/
ENTRYPOINT ["cordon-auth"]

FROM runtime AS ingest-worker
USER root
RUN apt-get update && apt-get install -y --no-install-recommends poppler-utils && rm -rf /var/lib/apt/lists/*
USER cordon
COPY --from=build /out/cordon-ingest-worker /out/cordon-sandbox /usr/local/bin/
ENV CORDON_SANDBOX_PATH=/usr/local/bin/cordon-sandbox
ENTRYPOINT ["cordon-ingest-worker"]

FROM runtime AS embedding-worker
COPY --from=build /out/cordon-embedding-worker /usr/local/bin/
ENTRYPOINT ["cordon-embedding-worker"]

FROM runtime AS query
COPY --from=build /out/cordon-query /usr/local/bin/
ENTRYPOINT ["cordon-query"]

FROM runtime AS audit-writer
COPY --from=build /out/cordon-audit-writer /usr/local/bin/
ENTRYPOINT ["cordon-audit-writer"]

# What an operator runs by hand: the schema, and keys for the bus (--entrypoint cordon-keygen).
FROM runtime AS migrate
USER root
RUN apt-get update && apt-get install -y --no-install-recommends libczmq4 && rm -rf /var/lib/apt/lists/*
USER cordon
COPY --from=build /out/cordon-migrate /out/cordon-keygen /usr/local/bin/
COPY migrations /usr/local/share/cordon/migrations
ENTRYPOINT ["cordon-migrate"]

# TLS in front of the edge, for compose.yaml; docs/front-door.md.
FROM debian:12-slim AS tls
RUN apt-get update && apt-get install -y --no-install-recommends haproxy openssl && rm -rf /var/lib/apt/lists/* && \
    install -d -o haproxy -g haproxy /var/lib/cordon/tls
COPY dev/haproxy /usr/local/share/cordon/haproxy
USER haproxy
EXPOSE 8443
ENTRYPOINT ["/usr/local/share/cordon/haproxy/start.sh"]

FROM debian:12-slim AS dev
WORKDIR /srv/cordon
COPY . .
RUN ./cordon setup && rm -rf /var/lib/apt/lists/*
EXPOSE 8080
ENTRYPOINT ["dev/container.sh"]
