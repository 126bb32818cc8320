# A base to build on for machines that reach no image registry: a C compiler and this machine's Rust toolchain, which
# ci/deploy/docker/build.sh --local puts into the build context. Never shipped.
ARG BASE
FROM $BASE
ARG EXTRA_CERTIFICATES=""
ARG APT_SETTINGS=""
RUN set -eu; \
    printf '%s\n' "$APT_SETTINGS" > /etc/apt/apt.conf.d/99build; \
    if [ -n "$EXTRA_CERTIFICATES" ]; then \
        printf '%s\n' "$EXTRA_CERTIFICATES" > /tmp/extra.pem; \
        echo 'Acquire::https::CAInfo "/tmp/extra.pem";' >> /etc/apt/apt.conf.d/99build; \
    fi; \
    apt-get update; \
    apt-get install -y --no-install-recommends gcc g++ make cmake perl libc6-dev ca-certificates; \
    rm -rf /var/lib/apt/lists/* /etc/apt/apt.conf.d/99build /tmp/extra.pem
ADD toolchain.tar /usr/local/rust
ENV PATH=/usr/local/rust/bin:$PATH
