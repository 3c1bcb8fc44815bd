package listener

// maxUnixPath is the length of sun_path without its end mark (unix(7)), in bytes.
const maxUnixPath = 107
