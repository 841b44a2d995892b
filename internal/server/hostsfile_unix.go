//go:build !windows

package server

const systemHostsFile = "/etc/hosts"
