class Served(nn.Module):
    "The values that are known and a time, to the value at that time"
    def __init__(self,
        data, # A data module after `setup`
        model # Trained
    ):
        super().__init__()
        self.net,self.known,self.data,times = model.net,data.known,data,data.series['time']
        k,terms = data.known,data.contract['columns'][data.contract['target']]
        self.steps = max(lag+3*s for s,lag in k.lags.items()) - k.ahead + 1
        past = Field('history', 'number', (self.steps,), min=terms.get('min'), max=terms.get('max'), columns=['value'], ahead=k.ahead,
            about=f'the last values, the oldest first; {k.ahead} x {k.step} after the last one is `time`')
        self.inputs = [past, Field('time', 'date')]
        off = k.holidays.holidays(times.min(), times.max()+pd.DateOffset(years=20)) if k.holidays else pd.DatetimeIndex([])
        self.register_buffer('off', torch.tensor((off-pd.Timestamp(0)).days.to_numpy(), dtype=torch.long))

    def arrays(self, part):
        every = from_table(self.data.series, self.inputs)
        return {k: v[self.data.rows[part].index] for k,v in every.items()}

    def at(self, history, back): return history[:,self.steps-1-(back-self.known.ahead)]

    def past(self, history):
        found,ahead = {'latest': self.at(history, self.known.ahead)},self.known.ahead
        for s,lag in self.known.lags.items():
            found[f'last_{s}'] = self.at(history, lag)
            found[f'usual_{s}'] = torch.stack([self.at(history, lag+i*s) for i in range(4)], 1).nanmean(1)
            found[f'level_{s}'] = history[:,self.steps-s:].nanmean(1)
        return torch.stack([found[k] for k in self.known.numbers], 1)

    def near_holiday(self, time):
        day = torch.floor(time.double()/86400).long()[:,None]
        off,before,after = [((day+i)==self.off).any(1) for i in (0, 1, -1)]
        return torch.where(off, 2, torch.where(before, 1, torch.where(after, 3, 0)))

    def forward(self, history, time):
        parts = calendar(time)
        kinds = [parts[p]-(p=='month') for p in self.known.parts]
        if self.known.holidays: kinds.append(self.near_holiday(time))
        ones = [(k[:,None]==torch.arange(n)).float() for n,k in zip(self.known.sizes, kinds)]
        return self.net(torch.cat([self.past(history), *ones], 1))
