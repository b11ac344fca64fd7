"""May the finished run be read at all (stage `measure`)?"""
