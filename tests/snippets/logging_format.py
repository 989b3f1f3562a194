logging.basicConfig(format="%(asctime)s [%(levelname)s] {%(name)s} %(message)s", style="%")
