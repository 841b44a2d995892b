package server

const systemHostsFile = `C:\Windows\System32\drivers\etc\hosts`
