module irohub/cmd/irohub

go 1.26.0

replace irohub => ../..

require irohub v0.0.0
