"%d%% of %(total)s, %-5s%%}" % {"total": 3}
ax.set_ylabel("error [%]"); "{:%}".format(.5); "[% of %]"
