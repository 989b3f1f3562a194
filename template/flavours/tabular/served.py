def date_columns(
    seconds # As the graph gets a date
)->list: # Tensors, as `date_ids` counts them
    "Month, day of the week and hour of each date"
    parts = calendar(seconds)
    return [parts[p].clamp(min=0) if p=='month' else parts[p]+1 for p in PARTS]

class Served(nn.Module):
    "A row of the table, to what is said of it"
    def __init__(self,
        data, # A data module after `setup`
        model # Trained
    ):
        super().__init__()
        self.model,self.encoder = model,data.encoder
        self.inputs = [f for f in contract_fields(data.encoder.contract) if f.dtype in KINDS]

    def forward(self, *columns):
        x,e = {f.name:c for f,c in zip(self.inputs, columns)},self.encoder
        days = [torch.where(x[k]==torch.iinfo(torch.int64).min, torch.nan, x[k].double()/86400) for k in e.trend]
        numbers = [torch.where(v.isfinite(), v, torch.nan).float() for v in [*[x[k] for k in e.number], *days]]
        ids = [x[k] for k in e.category] + [p for k in e.date for p in date_columns(x[k])]
        none = columns[0].new_zeros((len(columns[0]), 0))
        out = self.model(torch.stack(numbers, 1) if numbers else none.float(), torch.stack(ids, 1) if ids else none.long())
        return out.softmax(1) if e.labels else out[:,0]*self.model.std + self.model.mean
