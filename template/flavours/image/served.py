class Served(nn.Module):
    "An image as it was scanned, to the probability of each digit"
    def __init__(self,
        data, # A data module after `setup`
        model # Trained
    ):
        super().__init__()
        self.net = model.net
        self.inputs = [Field('image', 'integer', (8, 8), min=0, max=16, columns=data.features, about='ink, row by row')]

    def forward(self, image): return self.net(image[:,None]/16).softmax(1)
