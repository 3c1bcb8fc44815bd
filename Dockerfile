# An image of one static binary.
#
#   docker build --tag upgrader .                                    builds in a container
#   make build && docker build --target prebuilt --tag upgrader .    takes ./bin/upgrader, pulls no image
#
# To wrap a server, start from it:
#
#   FROM upgrader
#   COPY server /server
#   CMD ["--listen", "8080", "--", "/server"]

# The first stage, so that builders without BuildKit reach it before golang.
FROM scratch AS prebuilt
COPY bin/upgrader /upgrader
USER 65534:65534
ENTRYPOINT ["/upgrader"]

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o /out/upgrader ./cmd/upgrader

FROM scratch
COPY --from=build /out/upgrader /upgrader
USER 65534:65534
ENTRYPOINT ["/upgrader"]
