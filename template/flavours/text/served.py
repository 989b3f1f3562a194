BLANK,DASH,NOTHING = 2,4,len(ALPHABET)+2 # Their numbers

def characters()->list: # As the `letters` of a field
    "Which characters have the same number"
    every = [chr(i) for i in range(1, 0x2070)]
    def alike(c): return ''.join(o for o in every if o.lower()[:1]==c)
    blanks = ''.join(o for o in every if re.match(r"[^\w'’.-]", o) and not re.match(HIDDEN, o))
    return [blanks, "'’", *map(alike, ALPHABET[2:]), ''.join(o for o in every if re.match(HIDDEN, o))]

def close_up(
    x:torch.Tensor, # `[rows, places]`
    keep:torch.Tensor # Which of them
)->torch.Tensor: # The same shape, with zeros behind
    "Move what is kept to the left"
    n = x.shape[1]
    to = torch.where(keep, keep.long().cumsum(1)-1, n)
    return x.new_zeros((len(x), n+1)).scatter(1, to, x)[:,:n]

class Served(nn.Module):
    "A name as it is typed, to the probability of each language"
    def __init__(self,
        data, # A data module after `setup`
        model # Trained
    ):
        super().__init__()
        self.net = model.net
        self.inputs = [Field('name', 'text', letters=characters(), about='of a place')]

    def tidy(self, x):
        x = close_up(x, (x>0) & (x!=NOTHING))
        edge = x.new_zeros((len(x), 1))
        before,after = torch.cat([edge, x[:,:-1]], 1),torch.cat([x[:,1:], edge], 1)
        x = torch.where((x==DASH) & (before==BLANK) & (after==BLANK), BLANK, x)
        before = torch.cat([edge+BLANK, x[:,:-1]], 1)
        x = close_up(x, (x>0) & ~((x==BLANK) & (before==BLANK)))
        after = torch.cat([x[:,1:], edge], 1)
        return torch.where((x==BLANK) & (after==0), 0, x)

    def forward(self, x):
        places = len(LETTERS)
        x = torch.cat([self.tidy(x), x.new_zeros((len(x), places))], 1)[:,:places]
        edge = x.new_full((len(x), 1), BLANK)
        ended = torch.cat([edge, x], 1)
        last = torch.cat([x, edge*0], 1)==0
        return self.net(torch.cat([edge, torch.where(last & (ended>0), BLANK, torch.cat([x, edge*0], 1))], 1)).softmax(1)
