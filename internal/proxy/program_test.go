package proxy

func program([]string) int { return 0 }
