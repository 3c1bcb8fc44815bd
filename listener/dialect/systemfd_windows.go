package dialect

const protocolInfos = true
