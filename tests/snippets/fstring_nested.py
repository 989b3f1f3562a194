f"{ {k: v for k, v in zip('ab', [{1}, {2}])} }" f"{{{{}}}}" f"{(lambda a: {a})(1)}"
