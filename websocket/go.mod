module irohub/websocket

go 1.26

replace irohub => ../

require (
	github.com/coder/websocket v1.8.15
	irohub v0.0.0
)
