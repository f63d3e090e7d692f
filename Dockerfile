# One image for server and workers. Libraries and tiny models are fetched while it is built; what it makes runs offline.
FROM rust:1.95-bookworm AS build
RUN apt-get update -q && apt-get install -y -q --no-install-recommends cmake nasm clang libclang-dev pkg-config libavcodec-dev \
      libavformat-dev libavutil-dev libswscale-dev libswresample-dev python3 python3-venv python3-pip unzip curl \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/build/target \
    CARGO_TARGET_DIR=/build/target cargo build --release --locked && install -D target/release/squilla /out/bin/squilla
# ONNX Runtime and PDFium out of their Python packages; PROVIDER=onnxruntime-gpu[cuda,cudnn] for the gpu profile.
ARG PROVIDER=onnxruntime
RUN python3 -m venv /tmp/venv && /tmp/venv/bin/pip install -q "${PROVIDER}" pypdfium2 \
    && site=$(/tmp/venv/bin/python -c 'import site; print(site.getsitepackages()[0])') \
    && mkdir -p /out/lib && cp $site/onnxruntime/capi/libonnxruntime*.so* /out/lib/ \
    && ln -sf $(basename $(ls /out/lib/libonnxruntime.so.1* | sort | tail -1)) /out/lib/libonnxruntime.so \
    && cp $site/pypdfium2_raw/libpdfium.so /out/lib/ \
    && find $site/nvidia -name 'lib*.so*' -exec cp {} /out/lib/ \; 2>/dev/null || true
RUN python3 scripts/models/hubify --home /out/hf

FROM debian:bookworm-slim
RUN apt-get update -q && apt-get install -y -q --no-install-recommends libavcodec59 libavformat59 libavutil57 libswscale6 \
      libswresample4 libstdc++6 ca-certificates postgresql-client tini \
    && rm -rf /var/lib/apt/lists/* && useradd --create-home --uid 10001 squilla && install -d -o squilla -g squilla /data /spill
COPY --from=build /out/bin/squilla /usr/local/bin/squilla
COPY --from=build /out/lib /opt/squilla/lib
COPY --from=build --chown=squilla:squilla /out/hf /opt/squilla/hf
COPY deploy/entrypoint.sh /usr/local/bin/entrypoint.sh
ENV LD_LIBRARY_PATH=/opt/squilla/lib ORT_DYLIB_PATH=/opt/squilla/lib/libonnxruntime.so SQUILLA_PDFIUM=/opt/squilla/lib/libpdfium.so \
    HF_HOME=/opt/squilla/hf SQUILLA_DATA_DIR=/data
USER squilla
VOLUME ["/data", "/spill"]
EXPOSE 5433 50051
ENTRYPOINT ["tini", "--", "entrypoint.sh"]
CMD ["serve", "--listen", "0.0.0.0:5433"]
