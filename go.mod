module irohub

go 1.26
