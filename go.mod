module github.com/lanyard-lb/lanyard

go 1.26.0
