// Package nfshm never takes a process for a server that it has not proved to be that server: by its executable, by the
// --Server and --ID of its command line, and by the name spaces that it lives in. It knows what there is to know of
// NFPluginLoader (NFShmXFrame): its command line, its pid file, and the System V segment that it keeps its objects in.
package nfshm
