"""Sentences beside an answer that say it is none: denials, retractions, templates, doubts, answers of others.

`takes_back` reads a sentence behind an answer, `disowns` what leads to an object. A sentence counts only if it is
about the answer ("this", "the above", "my grade"): what it says of the knee ("this is not a tear") takes nothing back.

The phrases are data, one a line: a word in capitals stands for the alternatives in `_WORDS`, groups do not capture.
"""

from __future__ import annotations

import re
from functools import cache

from reasonknee_datasets.bench.answers.clause_words import ATTRIBUTED
from reasonknee_datasets.bench.answers.prose_tokens import normalise
from reasonknee_datasets.bench.answers.scale_words import refuses

_WORDS = {
    "NOUN": """(json|object|block|snippet|code|answers?|response|reply|outputs?|results?|grad(e|es|ing)|scor(e
        |es|ing)|values?|numbers?|figures?|digits?|ratings?|assessment|conclusion|reading|entry|entries|statements?
        |lines?|data|content|text|guess|evaluation|prediction|verdict|reasoning|ones?|twos?|threes?|zeros?)""",
    "THOSE": "(this|that|it|these|those|them|they|the above|what i \\w+|both|the (two|three)( \\w+)?)",
    "IT": """((all|none|any|most|each|every bit|part|neither|either) of (THOSE|the NOUN)|this|that|it|these
        |those|them|they|which|everything( above| here| i wrote)?|all(?= (above|is|was|are|were))|neither
        |the (above|following|below)|above|below|what (i (\\w+ )?(said|wrote|gave|put)|follows|precedes|stands)
        |(the|my|our|this|that|these|those|any|such|its|all|both|neither) (\\w+ ){0,2}?NOUN( (above|below|given
        |shown|stated|provided|written|here|i \\w+|in \\w+ \\w+))?)""",
    "IS": "(is|are|was|were|has been|have been|should be|must be|needs? to be|ought to be)",
    "ADV": "((\\w+ly|all|just|only|not even|also|now|still|both|in fact|of course|quite|very|obviously|then|simply) )*",
    "SAMPLE": """(examples?|samples?|templates?|illustrations?|demonstrations?|demos?|mock ?ups?|placeholders?
        |tests?|jokes?|lies?|mistakes?|fiction|defaults?|default values?|fillers?|stand ins?|mocks?|dumm(y|ies))""",
    "WRONG": """(wrong|incorrect|false(?! positive| negative)|untrue|invalid|inaccurate|mistaken|erroneous
        |bogus|fake|nonsense|nonsensical|meaningless|void|rubbish|garbage|gibberish|unfounded|baseless
        |untrustworthy|unreliable|unusable|made up|invented|fabricated|fictional|fictitious|random|arbitrary
        |hypothetical|imaginary|illustrative|guesswork|in error|an error|obsolete|outdated|superseded|withdrawn
        |retracted|revoked|rescinded|cancell?ed|deleted|hallucinated|copied|at random|too (high|low)|SAMPLE)""",
    "FORM": "(format|formatting|form|structure|syntax|schema|layout)",
    "NO_ANSWER": """((an? |the |my |pure |pretty |sheer |all |merely |simply )*WRONG
        |(an? |the |my |pure |pretty |sheer )+(\\w+ )?(SAMPLE|(?<!best )(?<!educated )(?<!informed )guess)|((meant
        |intended|given|shown|written|there|here|put|provided|included) )?(\\w+ly )?(as|for|to be|to show
        |to illustrate|to demonstrate) (an? |the |you )?(\\w+ )?(SAMPLE|illustrative|testing|FORM)
        |(the |my |an? )?(expected |required |requested |output )*FORM
        |not (the |my |our |an? |any )?(\\w+ )?(?<!official )(?<!clinical )(?<!medical )(?<!formal )NOUN(?! [0-9])
        |not (\\w+ly )?((right|correct|true|valid|real|accurate|reliable|trustworthy|meaningful|mine|so|it|serious
        |usable|final|genuine|supported|justified|grounded)\\b(?! (tear|lesion|cyst))|based on|what i|how i
        |the case|meant|intended (as|to be)|to be (used|trusted|taken|relied|counted|believed|scored|read)
        |from (this|the|your|these))|to be (ignored|disregarded|discarded|deleted|replaced|filled|completed
        |determined))""",
    "USE": "(use|trust|rely (up)?on|count( on)?|take|score|accept|submit|record|quote|believe|cite|read|grade|depend on)",
    "USED": "(used|trusted|relied (up)?on|counted( on)?|taken|scored|accepted|submitted|recorded|believed|quoted|read)",
    "DROP": """(disregard|ignore|discard|forget|scrap|scratch|strike|delete|drop|dismiss|skip|omit|void|cancel
        |remove|erase|reject|toss|throw (away|out)|retract|withdraw|revoke|rescind|recant|disown|renounce|repudiate
        |overlook|take back|pay no (attention|heed) to)""",
    "I": "(i|we) (\\w+ly |must |have to |want to |would like to |need to |now |will |would |do |should |hereby |just )*",
    "CANNOT": "I(can not|could not|am not able to|am unable to) ADV",
    "PERSONAL": "(?!.{0,80}(clinical|medical|treat|diagnos|surg|therap|decision|professional|management|patient care))",
    "IMAGE": "(images?|scans?|mris?|pictures?|volumes?|slices?|files?|attachments?)",
    "THE_IMAGE": "((the|any|an|your|this|actual) )*(\\w+ ){0,2}IMAGE",
    "UNSEEN": """(no (actual )?IMAGE (\\w+ ){0,2}(attached|provided|given|available|uploaded|included|shared
        |supplied|here|received|came|arrived|loaded)|(have|had|see|got|received|with) no IMAGE
        |without (any |an |the )?IMAGE|(can not|could not|can't|cannot|unable to|not able to|did not|do not|never
        |have not|had not) (actually |really )?(see|view|open|access|look at|have|receive|received|seen|looked at
        |viewed|opened) THE_IMAGE|IMAGE (did|could|do|does|were|was|have|has|is|are) not (be |been )?(load|open
        |display|arrive|render|come|attach|upload|provided|visible|available|readable)\\w*|IMAGE (failed|fails
        |refused) to \\w+)""",
    "OTHERS": """(radiologists?|physicians?|doctors?|clinicians?|surgeons?|colleagues?|readers?|students?
        |residents?|users?|patients?|models?|assistants?|someone|somebody|others|experts?|chatgpt|gpt|they|he|she
        |people|reviewers?|report|chart|letter|prompt|question|instructions?)""",
    "SAID": """(say|says|said|wrote|writes|answers?|answered|gave|gives|reported|reports|replied|claims?
        |claimed|suggests?|suggested|graded|thinks?|thought|noted|notes|stated|states|output|expects?|expected
        |wants?|wanted|shows?|showed|recorded|put|read|had)""",
}
_TAKES_BACK = """
IT IS ADVPERSONALNO_ANSWER
(that|it|this|they) NO_ANSWER$
IT (is|are|does|do|can|may|should|must|will) (not|no longer) (be )?ADVPERSONAL(USED|count|hold|stand|valid
 |mean anything|mine)
IT (does|do) (not|no longer) ADVapply( here)?$
IT (does|do) not (reflect|represent|describe|belong to|refer to|relate to|concern|come from) (this|the|any|your|my
 |what).{0,20}(patient|knee|image|scan|mri|study|case|view|opinion|see|saw|answer|assessment|finding)s?
IT (has|have) (no|nothing) (relation|connection|basis|bearing|meaning|validity|foundation|link|to do)
(none|neither) of (THOSE|the \\w+ above|the NOUN)\\b.{0,40} (answer|true|correct|right|real|valid|appl(y|ies)
 |counts?|holds?|meant|accurate|reliable|mine|based|grounded|supported|serious)
IT (is|are|was|were|comes?|came|belongs?|refers?) (\\w+ly |to |from |of |for )*(an?other|a different|somebody else
 |someone else|the previous|the wrong) (\\w+ )?(patient|knee|study|case|image|scan|conversation|session|example|exam
 |person|side|question)
(do not|never|should not|must not|can not) ADVUSE PERSONAL(to |as )?IT
(do not|never) ADVUSE$
DROP ADV(IT|NOUN)
^(please |kindly |so |just |then |better |or rather )*DROP( please)?$
(take|takes|took|taking) (it|this|that|these|them|everything|all|my \\w+) (all )?back
(treat|consider|regard|view|see|think of|read|take) (IT
 |the NOUN above)\\b.{0,30}\\bas (an? |the |only |just |merely |purely )*(\\w+ )?WRONG
Ichanged my mind
I(made IT up|made up IT|lied$|guessed$|made (NOUN|numbers) up)
I(invented|fabricated|guessed|hallucinated|copied|picked|chose) IT($| at random| randomly| from| without)
(filled|put|typed|entered|wrote|chose|picked|set|made|generated|produced|gave|drew)\\b.{0,30} (at random|randomly
 |arbitrarily|by chance|blindly|out of thin air|by coin flip)
(just|only|was|am|merely) (kidding|joking|testing|guessing|pretending|playing|making (this|that
 |it) up)\\b(?!.{0,30}\\bknee)
I(am|are|was|feel|remain) ADV(not( at all)? (sure|certain|confident)|unsure|uncertain|in doubt)( at all)?( (about|of
 |in|that|whether|if) IT\\b(?! \\w+ (of|in|on|at)\\b).{0,30}$|$)
I(have|had|got) (absolutely |really |frankly |actually )*no (idea|clue|confidence|faith|basis)
CANNOT(stand (by|behind)|vouch for|defend|justify|support|confirm|verify|be sure of) IT
CANNOT(tell|say|judge|assess|determine|grade|evaluate|see|answer|interpret|decide|know)( (it|this|that|anything
 |the (grade|images?|scan|knee|question|volume)))?( (at all|after all|from|reliably|with|without|in)\\b.*)?$
I(not )?(doubt|reject|deny|distrust|disagree with|disavow|regret) IT
Inot ADV(agree with|believe( in)?|accept|endorse|mean|stand (by|behind)|support|trust|think so|know|like) ?IT?$
(opposite|reverse|contrary|inverse)( of (this|that|it|the above|what \\w+ \\w+))? (is|was|holds|applies
 |would be) (\\w+ly )?(true|right|correct|the case|what|my|so|meant|intended|closer)
(is|are|was|were|mean|meant|holds|true) (\\w+ly |just )?(the )?(exact |very |complete )?(opposite|reverse|contrary
 |inverse)( of (this|that|it|the above|what \\w+ \\w+))?$
^((but|and|well|oh|wait|hmm|hm|actually|sorry|on reflection|on second thoughts?)[ ,]+)*(no|not|nope|false|wrong
 |incorrect|invalid|untrue|oops|psych|(lol )?jk|lol|never ?mind|not really|not so|not true|april fools?|as if
 |not at all|or not|or rather not)$
never ?mind
(scratch|strike) (that|this|the)
hold on .{0,20}(wrong|not)
not what i (\\w+ )?(mean|meant|think|believe|see|saw|want|wanted|would|intended)
what (i|we|one) (would|might|could|should) (\\w+ )?(say|answer|write|have|report|reply|put|give|guess)
(if (i|we) had (seen|looked|been|received|had)|had (i|we) (seen|looked|been|received|had))
(real|actual|true|correct|proper) (answer|grade|one|assessment|result) (is|will|would|follows|comes|differs
 |remains) (\\w+ )?(different|another|unknown|not|follow|later|be given|below|something else)
(before|without) (even |actually |really |ever )*(looking|seeing|viewing|opening|checking|having seen
 |reading) (at )?((the|any|an|your|this) )?(\\w+ )?(images?|scans?|mris?|volumes?|pictures?|it|them|knee|slices?|data)
(i was|we were) (\\w+ )?(wrong|incorrect|mistaken)
to (show|illustrate|demonstrate) (you )?(the|my|how)\\b.{0,30} (FORM|output)
(for|as an?) (illustration|demonstration|formatting|illustrative|demonstrative|testing|test|placeholder)
(example|template|placeholder|illustration|format|test|demo) only
(values?|grades?|numbers?|scores?|digits?|it|this|that|they|these) (\\w+ )?(needs?|has|have|must|should|will|still
 |is|are|to) (to )?(be )?(filled|replaced|overwritten|completed) ?(in|by|with|once|when|later|after)?
(still|first) (need|require|await) (the|an|your) IMAGE
UNSEEN
"""
_PLACEHOLDER = """
(for example|e\\.g\\.?|for instance|such as|look|looks like|look like)( this)?$
(^|[.\\n:;]\\s*)[# ]*(an? |the )?(\\w+ )?(example|sample|template|schema|placeholder|format|syntax
 |illustration)( [a-z]+){0,3}$
(^|[.\\n:;]\\s*)[# ]*(the |my )?(expected|output|response|answer|required|json|reply) (json )?(format|schema
 |template)( is)?$
(here|below|this|following|above) (is|are)( \\w+){0,3} (template|schema|example|sample|placeholder|format)s?$
expected (NOUN|json)$
"""
_NOT_YET = """
(template|placeholder|dummy|hypothetical|ignore|disregard|discard|example|sample|illustrat\\w*|default|typical(ly)?
 |pretend|imagine|suppose|supposing|assuming|made up|fictional|fictitious|invented|fake|random|arbitrary|nonsense
 |joke)\\b(?! the knee)
(i|we) will (reply|answer|respond|provide|give|return|report|output|use|fill)
(would|should|could) (be|look|read|have)
will be (given|provided|returned|formatted)
(once (i|you|the)|when (you|the images?)|if (you|the|i|there|one|we)|as soon as|please (provide|share|upload|send
 |attach))
need (the|an) images?
not an? (actual|real)
(let us|just) (say|assume)
(could|might|may) (also |well |just |then |equally |possibly )*(be|answer|say|write|reply|respond|read|give)
test(ing)? the
UNSEEN
"""
_NOT_MINE = """
IT (is|are|was|were|would be|should be|will be|looks?|seems?) ADVNO_ANSWER
(wrong|incorrect|false|invalid|bad|mistaken|erroneous|rejected|discarded|inaccurate|flawed|faulty|unacceptable
 |untrue|counter|worst|fake|bogus)( \\w+){0,2} ?(NOUN|examples?|one|version|way|option)
(mistake|error|wrong|lie|folly|tempting|silly) to (answer|write|say|reply|give|report|put|claim)
^(the |an? )?(wrong|incorrect|false|invalid|not|bad|rejected|mistaken|not this|not like this)$
(not|never) (the |my |our |an? |really |actually )*(\\w+ )?NOUN
(what|how) (not|never) to
what (i|we|you) (do|did|would|should|must|can) (\\w+ly )?(not|never)
(do not|never|not|must not|should not|would not|can not|could not|refuse to|decline to|reluctant to
 |hesitate to) ADV(use|trust|answer|write|say|reply|respond|submit|accept|return|output|copy|give|agree with|believe
 |endorse|confirm|stand by|support|think|mean|read|report|vouch for|certain (of|about|that)|sure (of|about|that)
 |confident (in|of|that|about))
(i|we) (\\w+ly )?(reject|rejected|disagree|doubt|withdraw|withdrew|retract|retracted|deny|denied|dispute|ruled out
 |dismiss|dismissed|considered and|discarded)
not$
(instead|rather than|other than|anything but|opposite|contrary|reverse)( of)?( \\w+){0,2}$
OTHERS( \\w+){0,2} SAID
^(the |my |his |her |their |an? )?(previous|prior|baseline|last|old|earlier|former|other|another)( [a-z]+){0,3}$
^(the |an? )?\\w+ NOUN (of|from|by) (an?other|the other|someone|somebody|a different)
"""
_TURN = re.compile(
    r"\b(?:but|however|yet|still|nevertheless|nonetheless|based|therefore|thus|hence|so|instead|my (?:best|own|final)"
    r"|correct(?:ed)?(?: \w+){0,2}|here is (?:my|the)|the (?:right|correct) (?:answer|one))\b|, (?:i|we|my) "
)
_SENTENCE = re.compile(r"[.!?;](?=\s|$)|\n\s*\n|[()]")
_AHEAD = re.compile(r"\b(?:the following|following|below|what follows|next|here|this is not|follows|that follows)\b")


@cache
def _compiled(phrases: str) -> re.Pattern[str]:
    """Compile phrases, one a line, into one pattern."""
    joined = re.sub(r"\n ", "", phrases.strip())
    return re.compile("|".join(_bounded(_expanded(line)) for line in joined.split("\n")))


def _expanded(phrase: str) -> str:
    known = "|".join(sorted(_WORDS, key=len, reverse=True))
    while True:
        wider = re.sub(rf"(?<!\\)(?:{known})", lambda found: re.sub(r"\n\s+", "", _WORDS[found[0]]), phrase)
        if wider == phrase:
            return re.sub(r"(?<!\\)\((?!\?)", "(?:", phrase)
        phrase = wider


def _bounded(pattern: str) -> str:
    return ("" if pattern.startswith(("^", "(?:^")) else r"\b") + pattern + ("" if pattern.endswith("$") else r"\b")


def takes_back(sentence: str) -> bool:
    """Check whether a normalised sentence says that the answer before it is none.

    Examples
    --------
    >>> [takes_back(text) for text in ("none of this is my answer", "this is not a tear", "the opposite is true")]
    [True, False, True]
    """
    return _compiled(_TAKES_BACK).search(sentence.strip(" .!,:*-\n")) is not None


def takes_back_any(text: str) -> bool:
    """Check whether any sentence of a text takes back the answer before it."""
    return any(takes_back(sentence) for sentence in sentences(normalise(text)))


def sentences(text: str) -> list[str]:
    """Split normalised text into sentences without outer blanks and marks."""
    return [part.strip(" \n:#-")[:400] for part in _SENTENCE.split(text) if part.strip(" \n:#-")]


def disowns(lead: str) -> str | None:
    """Return why what leads to an object introduces no answer, ``placeholder`` or ``retracted``; None where it does.

    Examples
    --------
    >>> [disowns(lead) for lead in ("The following is wrong: ", "I am not sure about the cyst, but: ", "Template:")]
    ['retracted', None, 'placeholder']
    """
    lead = normalise(lead)
    if _compiled(_PLACEHOLDER).search(lead[-80:].rstrip(" \n,:.#-")):
        return "placeholder"
    last = ["", *sentences(lead)][-1].strip(" .!?,")
    turned = list(_TURN.finditer(last))
    said = last[turned[-1].end() :] if turned and not last.startswith("this is not") else last
    if not turned and refuses(last):
        return "placeholder"
    if lead.rstrip(" \n").endswith((".", "!", "?")):
        return "retracted" if _AHEAD.search(last) and _compiled(_NOT_MINE).search(said) else None
    if _compiled(_NOT_YET).search(last):
        return "placeholder"
    return "retracted" if _compiled(_NOT_MINE).search(said) or ATTRIBUTED.search(said) else None
