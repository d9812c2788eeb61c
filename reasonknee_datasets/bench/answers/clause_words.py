"""Words of prose that decide what a clause does: state, deny, doubt, suppose, bound, attribute or correct a grade."""

from __future__ import annotations

import re


def words(text: str) -> frozenset[str]:
    """Split a list of words."""
    return frozenset(text.split())


SENTENCE_ENDS = frozenset((".", ";", "!", "?", "\n"))
# Words after which a clause of its own begins: what stands before them says nothing of what follows.
TURNS = words(
    "but however so therefore hence thus instead yet while whereas nevertheless accordingly consequently though "
    "although because since nonetheless making then"
)
# Words with which a clause of its own begins after a comma or "and".
OPENS = words(
    "i we it this that the my our which there its here these overall giving corresponding resulting yielding "
    "indicating suggesting representing rather final a"
)
VERBS = words(
    "is are was were has have had shows show demonstrates demonstrate equals remains = : meets corresponds "
    "represents measures appears exhibits reveals merits warrants can could would should will may might seems "
    "does applies fits"
)
DENIALS = words(
    "not no never neither nor none without lack lacks lacking lacked fail fails failed failing unable "
    "insufficient inadequate impossible doubt doubts doubtful unlikely exclude excludes excluded excluding reject "
    "rejects rejected against unclear uncertain undetermined unsure difficult hard hesitate hesitant refute "
    "refutes refuted mistake error fallacy stretch exaggeration overreach unwise unwilling loath averse deny "
    "denies denied dispute disagree incorrect incorrectly wrong wrongly mistaken mistakenly erroneous erroneously "
    "avoid refrain decline premature questionable debatable indeterminate equivocal inconclusive inappropriate "
    "unsupported unjustified unwarranted hardly scarcely barely nowhere nothing cannot absent absence ruled rules "
    "ruling precludes preclude precluded contradicts contradict contradicted dismiss dismissed false implausible "
    "improbable inconsistent incompatible discounted discarded negates argues skeptical sceptical overestimate "
    "overestimates overcall underestimate undercall untenable exaggerated exaggerates unconvincing unconvinced "
    "unverified unconfirmed unproven resist reluctant reluctance refuse refuses refused reservations misgivings "
    "dissent opposed myth"
)
DOUBTS = words(
    "may might could maybe perhaps possibly possible potentially potential conceivably whether tentative "
    "tentatively preliminary suspect suspected suspicious speculate guess consider considered wonder debate "
    "debated either question presumably hypothetical hypothetically tempting plausible plausibly worry concern "
    "differential possibility wonders wondering wondered uncertainty ambiguous provisional provisionally "
    "purported alleged reportedly unresolved"
)
FORMERLY = words(
    "hands experts raters observers rater observer inexperienced colleague colleagues radiologist radiologists "
    "reader readers others someone referring people clinician surgeon textbook literature guidelines guideline "
    "user clinic somebody authors initial initially prior previous previously earlier originally original "
    "formerly former baseline before last past first historical provisional draft"
)
SUPPOSES = words(
    "if unless suppose supposing supposedly assume assuming hypothetically provided lest typically usually "
    "commonly classically imagine imagining presuming until otherwise pending whenever"
)
NEEDS = words(
    "require requires required requiring need needs needed must defined define defines reserved definition "
    "threshold denotes denote means stands describes refers ranges range example examples scale criteria "
    "criterion includes implies entails would represents corresponds"
)
BOUNDS = words(
    "least most than beyond exceed exceeds exceeded exceeding above below under over short approach approaches "
    "approaching near nearly almost borderline minimum maximum between shy upto virtually surpass surpasses "
    "surpassing < > ≤ ≥ ~ ± + verging bordering close closer toward towards from outside versus vs minimally "
    "until avoiding opposed up threshold cutoff beneath past instead"
)
# What may stand between a bound and the label that it bounds.
ARTICLES = words("a an the to moaks of as that full true any on for being")
MEETS = words(
    "meet meets meeting met fulfil fulfils fulfill fulfills fulfilled satisfy satisfies per according by using "
    "consistent based applying following under with"
)
AFTER_BOUND = words(
    "higher more greater worse above less lower below better over beyond milder severer onwards upwards"
)
POST_ENDS = words(", ; : ( - — – and or with without but so given in")
UNSURE = (
    DOUBTS | SUPPOSES | (DENIALS - {"no", "without", "absent", "none", "false", "absence"}) | {"?", "rather", "instead"}
)
"""Words that leave open what a short answer states: it is read clause by clause instead."""
POST_DENIALS = DENIALS - {"no", "without", "absent", "absence", "against", "nothing", "argues"}
POST_ENDS_ANY = POST_ENDS | TURNS | {"as", "due", "on"}
GENERAL = words("common commonest frequent rare prevalent widespread uncommon")
"""What is said of a grade in general and not of one knee."""
EARLIER = words("elsewhere prior previous previously earlier initially originally baseline formerly")
COMPARES = words("unchanged stable same compared than since progressed increased from to")
# What commits a writer to a grade. Other words in these places ("reluctant to call it", "I contest") do not.
WRITERS = frozenset(("i", "we"))
# What may stand right before a grade: a copula, a verb of grading or showing, a noun of a finding, a conclusion.
GOVERNORS = words(
    "range worth rates is are was were be been assigned graded scored rated classified given gives giving give "
    "corresponds corresponding correspond equals equal equivalent consistent compatible represents representing "
    "constitutes indicates indicating indicate suggests suggesting suggestive shows showing show demonstrates "
    "demonstrating has have having receives receive receiving gets meets meeting criteria criterion warrants "
    "warranting merits meriting matches matching match fits fitting fit qualifies reflects reflecting amounts "
    "amounting yields yielding makes making supports supporting remains settle settled opt hence thus so "
    "therefore still then and but it this them these that in keeping category signal change changes "
    "hyperintensity abnormality abnormalities lesion lesions edema oedema thickening involvement tear morphology "
    "degeneration synovitis finding findings defect loss disease severity moderate mild severe small medium large "
    "normal present absent none assign call label grade score rate classify say go going choose select pick "
    "report record conclude estimate judge see find note confirm diagnose describe described labelled labeled "
    "called considered deemed judged favor favour place put exhibits exhibiting reveals revealing displays "
    "displaying bears scores rating grading value answer verdict assessment diagnosis impression conclusion "
    "result reading decision at into surely both overall i we my now here also instead categorized categorised "
    "designated recorded best likely probably by per on under according using accord accordance agreement line "
    "falls fall within belongs meet moaks scale definition translates translate equates no yes thickness affected "
    "seen noted identified observed detected visible one two three tears extrusion extruded mm cm percent surface "
    "subregion region size number depth plus including finally apply applies evident award awarded determined "
    "found being remain retains assigning than grades chosen selected confirmed correct appropriate accurate "
    "suitable adequate right proper true would will am there complex radial horizontal vertical partial complete "
    "fair reasonable applicable representative maceration total deserves deserve deserving earns earn earned "
    "earning merited lands land sits sit stands comes ranks rank ranked counts registers reaches reach reached "
    "attains attained achieves lies pegged fixed documented coded logged entered ends arrives narrowed reads "
    "tagged marked ranking evaluates computes results leads points speaks favours favors typical characteristic "
    "concordant congruent commensurate tallies aligns aligned accords conforms mirrors signifies implies "
    "justifies justified dictates mandates leaves ergo warranted characterised characterized allocated allotted "
    "attributed ascribed placing attract attracts carries carry denoting denotes scoring categorise categorize "
    "ascribe attribute allocate deem class classed meant intended end which settles opting concluded opts set"
)
# What "would" may lead to in a statement without a writer: "this would correspond to grade 2".
EQUATES = words(
    "be correspond represent amount equal qualify merit warrant fit suggest indicate make meet translate equate "
    "therefore thus then also best seem appear receive get constitute match have a the as to still place put"
)
ADVERBS = words("up clearly only just final overall clear definite most with")
PREPOSITIONS = words(
    "to of in at for on within by per as or with due along since because given based if though although"
)
PERSONS = words("i we is am was are")
COMMITTING = words(
    "end ended ending land landed meant mean assign assigned assigning give gave given grade graded grading rate "
    "rated score scored call called classify classified label labelled labeled estimate estimated determine "
    "determined conclude concluded see saw find found observe observed identify identified judge judged believe "
    "think thought say said select selected choose chose chosen pick picked go went propose proposed report "
    "reported record recorded note noted assess assessed interpret interpreted describe described evaluate "
    "evaluated designate categorize categorise categorized measure measured put place read settle settled arrive "
    "arrived opt opted suggest confirm confirmed agree reviewed examined looked mark marked diagnose diagnosed "
    "located compared obtain made make assume characterize characterise favor favour deem deemed analyze analyzed "
    "analysed apply used consider set feel would am can maintain keep detect detected visualize state answer "
    "award awarded rank annotate enter infer inferred deduce derive get got have"
)
AUXILIARIES = words(
    "would will do have had am can must shall should therefore thus also now then still just hereby finally "
    "ultimately personally carefully clearly was were been first next independently accordingly consequently "
    "again both tentatively simply to say like"
)
ENABLING = words(
    "like able happy comfortable going ready decided decide me us reasonable appropriate best safe as according "
    "enough correspond corresponds equivalent equal amount amounts up confident right correct extent compared "
    "similar leads led choose chose chosen prefer inclined opt opted fair sufficient used due back close closest "
    "belongs comes came corresponding elect elected tend want plan apply adjacent seems seem appears appear found "
    "judged deemed considered estimated need assigned thought felt point points prudent proceed advisable logical "
    "consistent sensible justified accurate proper necessary"
)
CLAIMING = words(
    "conclude think find believe estimate see determine note confirm suggest judge say assess feel certain sure "
    "clear evident obvious apparent confident convinced surely observe state report consider agree concluded "
    "found determined established true plain noted likely probable opinion view assessment infer shown fair "
    "correct right given"
)
EVIDENCE = words("for about on over concerning regarding")
SATISFIED = words(
    "criteria criterion definition requirements requirement settle settled opt opted go score qualifies "
    "thresholds description descriptor definitions standard features agree decide decided settling conditions "
    "pattern appearance findings typical diagnostic characteristic speaks speak speaking calls grade grades "
    "scores grading scoring rating value category classification result severity answer assessment degree level"
)
ASSIGNS = words("assign call label grade give score rate classify say speak use report")
AFFIRMED = words(
    "present seen noted assigned given appropriate most best identified observed correct chosen selected found "
    "evident indicated confirmed warranted justified supported suitable reasonable fitting therefore thus the my "
    "our clearly visible detected demonstrated shown accurate right reported definite also here more favored "
    "favoured recorded applicable awarded clear preferred concluded determined made used again now"
)
PLAIN_VERBS = words("is was are were seems appears looks")
AFFIRMS = words("applies fits describes matches reflects captures suits holds corresponds")
OTHER_VERBS = words(
    "remains overstates understates belongs sounds feels came comes goes went has had will shall should can does "
    "did do makes exceeds misses asks demands calls takes begins starts stays lies begs presupposes suggests "
    "deserves awaits depends involves"
)
NO_IMAGE = (
    r"no (?:actual )?(?:images?|scans?|mris?|pictures?|volumes?) (?:\w+ ){0,2}(?:attached|provided|given|available"
    r"|uploaded|included|shared|supplied|here|received)|(?:have|had|see|got|received|with) no "
    r"(?:images?|scans?|pictures?)|without (?:any |an |the )?(?:images?|scans?|pictures?)|(?:can not"
    r"|could not|can't|cannot|unable to|not able to|did not|do not"
    r"|never|have not|had not) (?:actually |really )?(?:see|view|open|access|look at|have|receive|received|seen"
    r"|looked at|viewed|opened) (?:the |any |an |your |this )?(?:\w+ ){0,2}(?:images?|scans?|mris?|pictures?|volumes?)"
)
"""Pattern of a writer who has seen no image."""
DISCLAIMED = (
    r"placeholders?|dummy|hypothetical|made (?:this |it |that )?up|fictional|fictitious|invented|arbitrary|random"
    r"|fabricated|illustrative|example|sample|template|guess(?:ed)?|not (?:a )?real"
)
"""Pattern of a value that its writer does not stand by."""
AT_LEAST = re.compile(r"\bat (?:the |its )?(?:very )?(?:least|most|minimum|maximum|best|worst)\b")
_CLAIMANT = (
    r"(?:physician|doctor|radiologist|report|reports|letter|reader|clinician|surgeon|patient|user|referrer|colleague"
    r"|chart|history|note|notes|request|record|records|expert|author|authors|study|orthopedist|orthopaedist)"
)
ATTRIBUTED = re.compile(
    r"\b(?:according to|per|by|(?:reported|stated|noted|described|written|documented|graded|read) (?:by|in)) "
    rf"(?:(?:the|his|her|their|your|a|an|another) )?(?:\w+ ){{0,2}}{_CLAIMANT}\b"
    r"|\bin (?:(?:a|one|another|previous|prior|recent|several|many|most|other) (?:\w+ )?(?:study"
    r"|studies|trials?|cohorts?"
    r"|series|papers?|populations?|patients|knees|cases|subjects|people)|the literature|general|most|many)\b"
    r"|\b(?:typical|example|sample|possible|hypothetical|expected) (?:reply|answer|response|output|report|result)\b"
    r"|\b(?:confidence|probability|likelihood|chances?|odds|certainty|belief|faith) (?:in|of|that|for)\b"
)
DISOWNED = re.compile(
    rf"\b(?:{DISCLAIMED}|{NO_IMAGE}|not (?:assess|evalua|determin)\w*"
    r"|questionable|uncertain|unclear|equivocal|debatable|indeterminate|tentative|unsure|doubtful"
    r"|inconclusive|borderline"
    r"|provisional|wrong|incorrect|erroneous|possibly|maybe|perhaps)\b"
)
TAKEN_BACK = re.compile(
    r"\b(?:first|initial|original|earlier|previous|preliminary) (?:thought|impression|guess|reading|answer|assessment"
    r"|estimate|idea|instinct)\b|\b(?:but|though|although|however|yet)\b.{0,40}\b(?:no longer|not|never|withdraw|reject"
    r"|decline|doubt|retract)\b.{0,30}\b(?:it|this|that|so|answer)\b"
)
CORRECTS = words(
    "correction corrected correcting revised revise revising revision reflection reconsider reconsidering "
    "reconsideration reconsidered actually amended amend updated update instead review reviewing rechecking "
    "recheck rereading reassess reassessing reassessment rethink reexamination reexamining mistake downgrade "
    "upgrade downgraded upgraded thought scrutiny edit edited erratum errata amendment meant sorry oops"
)
FINALLY = words("final finally conclude conclusion ultimately concluding end")
GRADE_WORDS = words(
    "rates scoring grade graded grades score scored scores rated rating moaks grading code coded category"
)
ANSWER_WORDS = words(
    "put answer say choose select pick assign estimate value call go going give gave settle settled decide decided "
    "opt opted landed meant mean makes make making worth"
)
CONCLUDES = words("therefore thus hence so ergo consequently accordingly")
"""Words behind which a number that ends its clause is what the writer concludes."""
GIVES = words(
    "give gives gave assign assigns award awards earn earns earned grant grants rate rates rated grade grades graded "
    "score scores scored call called"
)
VERDICTS = words(
    "reading assistant verdict correction answer value result severity decision conclusion prediction output "
    "response choice assessment diagnosis estimate determination impression"
)
FILLERS = frozenset((":", "=", "(", "[", '"', "'", "|", "–", "—", "-", "{", "#", "\n")) | words(
    "is was be as of a an the at to being moaks grade score equals equal would should will category assigned "
    "level remains therefore thus hence only just with in graded scored rated best surely overall final now "
    "likely probably roughly approximately about it this are all both each on read so ergo consequently "
    "accordingly"
)
UNITS = words(
    "% percent mm cm millimeters millimetres millimeter millimetre slices slice images image lesions foci focus "
    "bml views view years year months weeks days times fragments bodies cysts osteophytes sequences planes t "
    "tesla degrees voxels pixels points point ml cc x × * / of out ^ series frames readers patients knees"
)
NOT_ROMAN = words("would can could am have think assign see do will had believe")
# What may stand before a number in parentheses that says how it is meant.
DESCRIBES = words(
    "present absent yes no seen tear torn intact normal abnormality maceration mild moderate severe small medium "
    "large none detected identified noted horn body lesion physiologic true false visible trace"
)
REFERS = words(
    "slice image figure fig frame ref table step view see sequence level no year page panel plane number arrow "
    "note point option item study visit patient reference"
)
MEANS = words("for with without when if where to means in")
FORWARD_ENDS = words(
    ", ; : ) — – and but while whereas because since as which with without so given based due than rather not "
    "however although though or = beyond near adjacent | compared when if after despite ? indicating"
)
