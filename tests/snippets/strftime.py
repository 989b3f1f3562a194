t.strftime("%Y-%m-%dT%H:%M:%S%z {%j}")
f"{t:%Y-%m-%d %H:%M:%S%%}"
